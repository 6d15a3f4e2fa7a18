"""How busy this process and its machine are, as Linux tells it; on Fargate, the machine is the task's own.

Files of /proc and of cgroups, and no psutil: the image of the load generator needs nothing more than Python for it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
# Of a container: its share of CPU, and for how long it was stopped as it had used that up.
CPU_MAX, CPU_STAT = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu.stat")
IDLE = (3, 4)  # of the numbers in the first line of /proc/stat: idle, and waiting for a disk


@dataclass(frozen=True)
class Used:
    """Since some moment.

    Attributes:
        process: seconds of CPU of this process.
        busy: of the machine, in its own unit.
        total: the same, idle or not.
        stopped: seconds for which the container was.
    """

    process: float
    busy: int
    total: int
    stopped: float

    @classmethod
    def now(cls) -> Used:
        """As it is now; what a machine does not tell is 0."""
        busy, total = _machine()
        return cls(time.process_time(), busy, total, _stopped())

    def machine_share(self, before: Used) -> float | None:
        """The share, 0 to 1, of the machine's CPU that was used since; None where nothing tells it."""
        total = self.total - before.total
        return (self.busy - before.busy) / total if total > 0 else None


def cores() -> float:
    """Cores that this process may use: of the machine, or of the container's share of them."""
    known = float(len(os.sched_getaffinity(0)))
    quota, _, period = _text(CPU_MAX).partition(" ")
    return min(known, int(quota) / int(period)) if quota.isdecimal() and period.strip().isdecimal() else known


def _machine() -> tuple[int, int]:
    line = _text(STAT).partition("\n")[0].split()
    numbers = [int(number) for number in line[1:9]]  # those after are of guests, and in the others already
    return sum(number for place, number in enumerate(numbers) if place not in IDLE), sum(numbers)


def _stopped() -> float:
    pairs = (line.split() for line in _text(CPU_STAT).splitlines())
    return next((int(pair[1]) / 1e6 for pair in pairs if pair[:1] == ["throttled_usec"]), 0.0)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # another system, or no cgroup of its own: what is not told is not known
        return ""
