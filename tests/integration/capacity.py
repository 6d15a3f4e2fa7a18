"""The limits of a Keyspaces stand-in, which tests set while it runs, and what it has counted."""

from __future__ import annotations

import time
from typing import Any

from infra.local.settings import Stack

CONSUMED = "SELECT * FROM stand_in.consumed WHERE keyspace_name = %s AND table_name = %s"


class Capacity:
    """A server's limits, by a session whose rows have named fields; it was started with `start_wcu`, and no rcu."""

    def __init__(self, stack: Stack, session: Any, start_wcu: float) -> None:
        self.session = session
        self.file = stack.home / "cassandra" / "capacity.properties"
        self._start_wcu = start_wcu

    def write_file(self, text: str) -> None:
        part = self.file.with_suffix(".part")
        part.write_text(text)
        part.replace(self.file)

    def limits(self) -> dict[str, float]:
        return {row.name: row.units for row in self.session.execute("SELECT name, units FROM stand_in.capacity")}

    def wait_for(self, **expected: float) -> None:
        deadline = time.monotonic() + 10
        while not expected.items() <= {name.replace(".", "_"): units for name, units in self.limits().items()}.items():
            assert time.monotonic() < deadline, self.limits()

    def set(self, **units: float) -> None:
        """Return when it is in force: `partition_wcu` is the file's `partition.wcu`."""
        self.write_file("".join(f"{name.replace('_', '.')} = {number}\n" for name, number in units.items()))
        # All four are waited for: the test before may have left these as they are to be, but not the others.
        tables = {"wcu": self._start_wcu, "rcu": 0, **units}
        quotas = {"partition_wcu": 1000 if tables["wcu"] else 0, "partition_rcu": 3000 if tables["rcu"] else 0}
        self.wait_for(**{**quotas, **tables})
