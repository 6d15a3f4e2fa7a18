"""Whether a worker was itself what was slow: then its latencies are of it, and not of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from Simulation.recording import MOST_CALLERS, Vitals

# What is above these in a share of the seconds is no accident.
LATE = 0.02  # seconds: a scheduler wakes a thread within a few milliseconds, if it has a core for it
PROCESS_CPU = 0.85  # of a core: Python runs on one at a time
MACHINE_CPU = 0.95
STOPPED = 0.05  # seconds of a second
SHARE = 0.05
STILL = 0.01  # of the time: so many of the calls began late then, which a 99th percentile shows


def reasons(vitals: Sequence[Vitals], callers: int) -> list[str]:
    """What says that the worker was too slow for its rate, a sentence each; none if nothing does.

    That no more calls may be under way is none of it, as then the server is slow, and their latency has it; unless the
    worker would have needed more callers than one may have.

    Args:
        vitals: of one worker, of the seconds in question.
        callers: how many calls it may have under way.
    """
    tests: list[tuple[Callable[[Vitals], bool], str]] = [
        (lambda each: each.late > LATE, f"began calls more than {LATE * 1000:g} ms late while it had callers free"),
        (lambda each: each.process_cpu > PROCESS_CPU, f"used more than {PROCESS_CPU:.0%} of a core, Python's most"),
        (lambda each: (each.machine_cpu or 0) > MACHINE_CPU, f"was on a machine more than {MACHINE_CPU:.0%} busy"),
        (lambda each: each.throttled_cpu > STOPPED, "had used up its container's share of CPU"),
        (
            lambda each: callers >= MOST_CALLERS and each.waited > 0,
            f"had {MOST_CALLERS:,} calls under way, the most of a worker, and began others late: take more workers",
        ),
    ]
    found = []
    for test, what in tests:
        seconds = sum(map(test, vitals))
        if seconds and seconds >= SHARE * len(vitals):
            found.append(f"In {seconds} of {len(vitals)} seconds it {what}.")
    still = sum(min(each.late, 1.0) for each in vitals if each.late > LATE)
    if not found and still and still >= STILL * len(vitals):
        found.append(f"For {still:.1f} of {len(vitals)} seconds it stood still, and began what was due then late.")
    return found
