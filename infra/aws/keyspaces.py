"""Renders the tables of templates/keyspaces.yaml from the feature views, as Keyspaces/*.cql are.

`python -m infra.aws.keyspaces` brings the file up to date after a view was added or changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from feature_store import registry
from feature_store.view import Column, FeatureView

TEMPLATE = Path(__file__).parent / "templates" / "keyspaces.yaml"
# What is between these lines is rendered; all else in the file is written by hand.
BEGIN, END = "  # Tables of the feature views: python -m infra.aws.keyspaces\n", "  # End of the tables\n"
# Tables are made from a keyspace that is there, and stay with their rows when the stack is deleted.
TABLE = """\
  {id}:
    Type: AWS::Cassandra::Table
    DeletionPolicy: RetainExceptOnCreate
    UpdateReplacePolicy: Retain
    Properties:
      KeyspaceName: !Ref Keyspace
      TableName: {name}
      PartitionKeyColumns:
        - {entity}
      ClusteringKeyColumns:
        - {{ Column: {day}, OrderBy: DESC }}
      RegularColumns:
{columns}
      BillingMode: !If
        - IsProvisioned
        - Mode: PROVISIONED
          ProvisionedThroughput:
            ReadCapacityUnits: !Ref ReadCapacityUnits
            WriteCapacityUnits: !Ref WriteCapacityUnits
        - Mode: ON_DEMAND
      PointInTimeRecoveryEnabled: !Ref PointInTimeRecovery
      EncryptionSpecification:
        EncryptionType: CUSTOMER_MANAGED_KMS_KEY
        KmsKeyIdentifier: !Ref KmsKeyArn

"""


class TemplateError(Exception):
    """The template can't be rendered; the message says why."""


def logical_id(view: FeatureView) -> str:
    """Name the resource of a view's table: CloudFormation takes letters and digits only."""
    return "".join(part.capitalize() for part in view.name.split("_")) + "Table"


def table(view: FeatureView) -> str:
    """Render the resource of a view's table: the columns, key and order of `feature_store.cql.table`."""
    entity, day = view.keys
    regular = view.columns[len(view.keys) :]
    return TABLE.format(
        id=logical_id(view),
        name=view.name,
        entity=_column(entity),
        day=_column(day),
        columns="\n".join(f"        - {_column(column)}" for column in regular),
    )


def render(text: str, views: Iterable[FeatureView]) -> str:
    """Put the tables of these views into the template's text, in place of those that are there.

    Raises:
        TemplateError: the text has no place for them, or two views would have one name there.
    """
    views = list(views)
    if len({logical_id(view) for view in views}) < len(views):
        raise TemplateError(
            "Two views differ in underscores only, which CloudFormation's names can't have: rename one."
        )
    tables = "".join(table(view) for view in views)
    # A function, as the text of a replacement would be taken for a pattern's.
    found, places = re.subn(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}{tables}{END}", text, flags=re.DOTALL)
    if places != 1:
        raise TemplateError(f"The template has no lines {BEGIN.strip()!r} and {END.strip()!r}: restore them.")
    return found


def _column(column: Column) -> str:
    return f"{{ ColumnName: {column.name}, ColumnType: {column.type.cql} }}"


if __name__ == "__main__":
    TEMPLATE.write_text(render(TEMPLATE.read_text(), registry.views()))
