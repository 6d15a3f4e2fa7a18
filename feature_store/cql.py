"""CQL in Amazon Keyspaces' own dialect: rendered from a feature view, split into statements, applied to a session."""

from __future__ import annotations

import datetime as dt
import re
from typing import Protocol

from feature_store.keyspaces import SECONDS_A_DAY
from feature_store.view import FeatureView

KEYSPACE = "feature_store"
# In Keyspaces/, a view's table has the view's name; that of the original kit has the name that it had there.
KIT_FILES = {"energy_data_features": "Table_Schema.cql"}

# A quoted string or name, a comment, a statement's end, or anything else.
TOKEN = re.compile(
    r"""(?P<kept>'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\$.*?\$\$)|(?P<comment>--[^\n]*|//[^\n]*|/\*.*?\*/)|(?P<end>;)|.""",
    re.DOTALL,
)


class Session(Protocol):
    """What apply needs of a driver's session."""

    def execute(self, query: str) -> object:
        """Run one statement."""
        ...


def keyspace(name: str) -> str:
    """Render the text of Keyspace.cql."""
    return f"CREATE KEYSPACE IF NOT EXISTS \"{name}\"\n    WITH REPLICATION = {{'class': 'SingleRegionStrategy'}};\n"


def file(view: FeatureView) -> str:
    """Name the file in Keyspaces/ that makes a view's table."""
    return KIT_FILES.get(view.name, f"{view.name}.cql")


def table(view: FeatureView, keyspace: str) -> str:
    """Render the text of a view's file: one wide row for an entity's day, the newest day first."""
    entity, day = view.keys
    columns = "".join(f'    "{column.name}" {column.type.cql},\n' for column in view.columns)
    expiry = "" if view.retention is None else f"\n    AND default_time_to_live = {view.retention * SECONDS_A_DAY}"
    return (
        f'CREATE TABLE IF NOT EXISTS "{keyspace}"."{view.name}" (\n'
        f"{columns}"
        f'    PRIMARY KEY ("{entity.name}", "{day.name}")\n'
        ") WITH CUSTOM_PROPERTIES = {'capacity_mode': {'throughput_mode': 'PAY_PER_REQUEST'}}\n"
        f'    AND CLUSTERING ORDER BY ("{day.name}" DESC){expiry};\n'
    )


def latest(view: FeatureView, keyspace: str) -> str:
    """Render the query of an entity's newest row, with the entity as its only parameter."""
    names = ", ".join(f'"{column.name}"' for column in view.columns)
    return f'SELECT {names} FROM "{keyspace}"."{view.name}" WHERE "{view.entity}" = ? LIMIT 1'  # noqa: S608 - no values


def delete(view: FeatureView, keyspace: str, table: str, entity: str, day: dt.date) -> str:
    """Render the statement, for a person to run, that takes an entity's row of a day away."""
    value = entity.replace("'", "''")
    return (
        f'DELETE FROM "{keyspace}"."{table}"'  # noqa: S608 - the value is quoted
        f" WHERE \"{view.entity}\" = '{value}' AND \"{view.day}\" = '{day}';"
    )


def statements(text: str) -> list[str]:
    """Split the text of a .cql file into its statements, without comments and closing semicolons."""
    found, current = [], ""
    for token in TOKEN.finditer(text):
        if token["end"]:
            found.append(current.strip())
            current = ""
        else:
            current += " " if token["comment"] else token[0]
    found.append(current.strip())
    return [statement for statement in found if statement]


def apply(session: Session, text: str) -> None:
    """Run the statements of a .cql file one after the other, in the file's order.

    Keyspaces makes keyspaces and tables asynchronously: give it a moment between a keyspace and its first table.
    """
    for statement in statements(text):
        session.execute(statement)
