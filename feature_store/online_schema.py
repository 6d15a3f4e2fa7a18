"""The online tables as the declarations want them: make what is missing, add what is new, refuse what destroys."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

# The driver ships no types.
from cassandra.cluster import Session  # type: ignore[import-untyped]

from feature_store import cql, cql_lint
from feature_store.endpoint import DRIVER_ERRORS, OnlineError
from feature_store.view import FeatureView

# Keyspaces makes keyspaces and tables, and changes them, in the background:
# docs.aws.amazon.com/keyspaces/latest/devguide/functional-differences.html
ACTIVE_SECONDS, POLL_SECONDS = 300.0, 1.0

log = logging.getLogger(__name__)


class DestructiveChangeError(Exception):
    """The declaration can be had only by destroying what is there; the message has the statement to run by hand."""


class Done(Enum):
    """What was done with a table."""

    MADE = "made"
    CHANGED = "changed"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Tables:
    """The tables of a keyspace, by a driver's session whose rows are dicts."""

    session: Session
    keyspace: str
    active_seconds: float = ACTIVE_SECONDS

    def is_there(self, table: str) -> bool:
        """Whether there is a table of that name, ready or not; OnlineError if that can't be told."""
        return self._status(table) is not None

    def ensure(self, view: FeatureView, table: str) -> Done:
        """Let a table be a view's, and return when it is ready for use.

        Raises:
            DestructiveChangeError: it has other keys, another type of a column, or a column that the view has not;
                nothing was changed.
            OnlineError: the server refuses it, or is not done with it in time.
        """
        if not self._keyspace_is_there():
            self._run(cql.keyspace(self.keyspace))
            self._wait(f"keyspace {self.keyspace}", self._keyspace_is_there)
        if self._status(table) is None:
            self._run(cql.table(view, self.keyspace, table))
            self._wait(f"table {self.keyspace}.{table}", lambda: self._status(table) == "ACTIVE")
            return Done.MADE
        self._wait(f"table {self.keyspace}.{table}", lambda: self._status(table) == "ACTIVE")
        return self._change(view, table)

    def _change(self, view: FeatureView, table: str) -> Done:
        found = self._rows(cql.SELECT_COLUMNS, self.keyspace, table)
        there = {str(row["column_name"]): str(row["type"]) for row in found}
        keys = [row for row in found if row["kind"] != "regular"]
        keys.sort(key=lambda row: (row["kind"] != "partition_key", row["position"]))
        self._refuse(view, table, there, [str(row["column_name"]) for row in keys])
        new = [column for column in view.columns if column.name not in there]
        options = self._rows(cql.SELECT_OPTIONS, self.keyspace, table)
        statements = [cql.add_columns(new, self.keyspace, table)] if new else []
        if options and options[0]["default_time_to_live"]:
            # Rows leave by their day, and not by the time since they were written.
            statements.append(cql.no_time_to_live(self.keyspace, table))
        for statement in statements:
            self._run(statement)
            self._wait(f"table {self.keyspace}.{table}", lambda: self._status(table) == "ACTIVE")
        return Done.CHANGED if statements else Done.NOTHING

    def _refuse(self, view: FeatureView, table: str, there: dict[str, str], keys: list[str]) -> None:
        wanted = {column.name: column.type.cql for column in view.columns}
        others = {name: kind for name, kind in wanted.items() if there.get(name, kind) != kind}
        said = [f"{name} is {there[name]}, not {kind}" for name, kind in others.items()]
        said += [f"{name} is no column of the view" for name in there if name not in wanted]
        if keys != [key.name for key in view.keys]:
            said.insert(0, f"its key is ({', '.join(keys)})")
        if said:
            raise DestructiveChangeError(
                f"The online table {self.keyspace}.{table} can't become view {view.name}'s without being destroyed, as "
                f"Keyspaces changes no key and no type and drops no column: {'; '.join(said)}. Declare a view of "
                f'another name; or, if nobody reads this table, run DROP TABLE "{self.keyspace}"."{table}"; yourself, '
                "and then this and the sync of all days again."
            )

    def _keyspace_is_there(self) -> bool:
        return bool(self._rows(cql.SELECT_KEYSPACE, self.keyspace))

    def _status(self, table: str) -> str | None:
        found = self._rows(cql.SELECT_STATUS, self.keyspace, table)
        return str(found[0]["status"]) if found else None

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.active_seconds
        while not ready():
            if time.monotonic() > deadline:
                raise OnlineError(f"The {what} is not ready after {self.active_seconds:.0f} s: run this again later.")
            time.sleep(POLL_SECONDS)

    def _run(self, text: str) -> None:
        for statement in cql.statements(text):
            log.info("%s", " ".join(statement.split()))
            try:
                self.session.execute(cql_lint.checked(statement))
            except DRIVER_ERRORS as error:
                raise OnlineError(f"Keyspaces refuses {' '.join(statement.split())[:200]}: {error}") from error

    def _rows(self, query: str, *values: str) -> list[dict[str, object]]:
        try:
            return list(self.session.execute(cql_lint.checked(query), values))
        except DRIVER_ERRORS as error:
            raise OnlineError(f"Keyspaces' schema can't be read: {error}") from error
