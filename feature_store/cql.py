"""CQL in Amazon Keyspaces' own dialect: rendered from a feature view, split into statements, applied to a session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from feature_store.view import Column, FeatureView

KEYSPACE = "feature_store"
# In Keyspaces/, a view's table has the view's name; that of the original kit has the name that it had there.
KIT_FILES = {"energy_data_features": "Table_Schema.cql"}

# What the schema holds, and whether Keyspaces is done with it. Parameters: the keyspace, and the table.
SELECT_KEYSPACE = "SELECT keyspace_name FROM system_schema_mcs.keyspaces WHERE keyspace_name = %s"
SELECT_STATUS = "SELECT status FROM system_schema_mcs.tables WHERE keyspace_name = %s AND table_name = %s"
SELECT_COLUMNS = (
    "SELECT column_name, type, kind, position FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s"
)
SELECT_OPTIONS = "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"

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


def table(view: FeatureView, keyspace: str, name: str | None = None) -> str:
    """Render the text of a view's file: one wide row for an entity's day, the newest day first.

    Args:
        view: the declaration.
        keyspace: of the table.
        name: of the table; None is the view's.
    """
    entity, day = view.keys
    columns = "".join(f'    "{column.name}" {column.type.cql},\n' for column in view.columns)
    return (
        f'CREATE TABLE IF NOT EXISTS "{keyspace}"."{name or view.name}" (\n'
        f"{columns}"
        f'    PRIMARY KEY ("{entity.name}", "{day.name}")\n'
        ") WITH CUSTOM_PROPERTIES = {'capacity_mode': {'throughput_mode': 'PAY_PER_REQUEST'}}\n"
        f'    AND CLUSTERING ORDER BY ("{day.name}" DESC);\n'
    )


def add_columns(columns: Iterable[Column], keyspace: str, table: str) -> str:
    """Render the statement that adds columns to a table."""
    added = ", ".join(f'"{column.name}" {column.type.cql}' for column in columns)
    return f'ALTER TABLE "{keyspace}"."{table}" ADD ({added})'


def no_time_to_live(keyspace: str, table: str) -> str:
    """Render the statement by which rows no longer leave a table by the time since they were written."""
    return f'ALTER TABLE "{keyspace}"."{table}" WITH default_time_to_live = 0'


def latest(view: FeatureView, keyspace: str, columns: Sequence[str]) -> str:
    """Render the query of columns of an entity's newest row, with the entity as its only parameter."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f'SELECT {names} FROM "{keyspace}"."{view.name}" WHERE "{view.entity}" = ? LIMIT 1'  # noqa: S608 - no values


def select_days(view: FeatureView, keyspace: str, table: str) -> str:
    """Render the query of an entity's rows from one day to another; parameters: entity, first day, last day."""
    where = f'WHERE "{view.entity}" = ? AND "{view.day}" >= ? AND "{view.day}" <= ?'
    return f"{_select(view, keyspace, table)} {where}"


def select_tokens(view: FeatureView, keyspace: str, table: str) -> str:
    """Render the query of a part of a table, all days; parameters: the token above which, and that up to which."""
    where = f'WHERE token("{view.entity}") > ? AND token("{view.entity}") <= ?'
    return f"{_select(view, keyspace, table)} {where}"


def next_entity(view: FeatureView, keyspace: str, table: str) -> str:
    """Render the query of the next entity of a part of a table, and its token; parameters as of select_tokens."""
    entity = f'"{view.entity}"'
    where = f"WHERE token({entity}) > ? AND token({entity}) <= ? LIMIT 1"
    return f'SELECT {entity}, token({entity}) FROM "{keyspace}"."{table}" {where}'  # noqa: S608 - no values


def insert(view: FeatureView, keyspace: str, table: str) -> str:
    """Render the statement that writes a row; parameters: its columns, in the view's order."""
    marks = ", ".join("?" for _ in view.columns)
    return f'INSERT INTO "{keyspace}"."{table}" ({_names(view)}) VALUES ({marks})'  # noqa: S608 - no values


def delete(view: FeatureView, keyspace: str, table: str) -> str:
    """Render the statement that takes a row away; parameters: entity and day."""
    return f'DELETE FROM "{keyspace}"."{table}" WHERE "{view.entity}" = ? AND "{view.day}" = ?'  # noqa: S608 - as above


def sent(view: FeatureView, name: str) -> list[str]:
    """All statements that the project sends for a view whose table is in the keyspace of a name."""
    return [
        *statements(keyspace(name) + table(view, name)),
        add_columns(view.columns[len(view.keys) :], name, view.name),
        no_time_to_live(name, view.name),
        *(SELECT_KEYSPACE, SELECT_STATUS, SELECT_COLUMNS, SELECT_OPTIONS),
        latest(view, name, [column.name for column in view.columns]),
        *(each(view, name, view.name) for each in (select_days, select_tokens, next_entity, insert, delete)),
    ]


def _select(view: FeatureView, keyspace: str, table: str) -> str:
    return f'SELECT {_names(view)} FROM "{keyspace}"."{table}"'  # noqa: S608 - no values


def _names(view: FeatureView) -> str:
    return ", ".join(f'"{column.name}"' for column in view.columns)


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

    Keyspaces makes keyspaces and tables asynchronously: `spark_jobs.schema` waits for them, this does not.
    """
    for statement in statements(text):
        session.execute(statement)
