"""`python -m benchmarks [NAME ...]`: run benchmarks, show tables, write build/bench/NAME.json."""

from __future__ import annotations

import argparse
import fnmatch
import sys

from benchmarks import backfills, features, measure, online, online_faults, report, sync, training, validation

ALL = {"features": features, "validation": validation, "sync": sync, "backfills": backfills, "training": training}
# Those that measure in this process, and have columns of their own.
OWN = {"online_faults": online_faults}
ONLINE = "online"  # has more to say than a table
NAMES = (*ALL, ONLINE, *OWN)
SIZES = {"training": ("events", "households"), ONLINE: ("rows", "seconds")}  # what can be less, to try them


def main() -> int:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cases whose name fits, such as 'ours_*'")
    parser.add_argument("--runs", type=int, help="times that each case is run (default: its own, 3 or more)")
    for name, sizes in SIZES.items():
        for what in sizes:
            parser.add_argument(f"--{what}", type=int, metavar="N", help=f"of {name}: so many {what}, to try it")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"there is no benchmark {unknown[0]}: there are {', '.join(NAMES)}")
    for name in args.names or NAMES:
        given = {what: getattr(args, what) for what in SIZES.get(name, ()) if getattr(args, what)}
        if name == ONLINE:
            online.run(_say, **given, **({"rounds": args.runs} if args.runs else {}))
        elif name in OWN:
            _run_own(name, args.only or ["*"], args.runs)
        else:
            _run(name, args.only or ["*"], args.runs, given)
    return 0


def _run_own(name: str, patterns: list[str], runs: int | None) -> None:
    summaries, columns = OWN[name].run(lambda case: any(fnmatch.fnmatch(case, each) for each in patterns), runs, _say)
    print(f"\n{report.table(summaries, columns)}\n\n{report.write(name, summaries, {})}")  # noqa: T201


def _run(name: str, patterns: list[str], runs: int | None, sizes: dict[str, int]) -> None:
    part = ALL[name]
    cases = [
        case for case in part.cases(_say, **sizes) if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)
    ]
    found = measure.run_rounds(cases, part.LOGS, _say, runs)
    summaries = [measure.summary(case, found[case.name]) for case in cases]
    ratios = report.ratios(summaries, part.RATIOS)
    print(f"\n{report.table(summaries)}\n")  # noqa: T201 - this is what a person reads
    for pair, ratio in ratios.items():
        print(f"{pair:<44}{ratio:8.2f}")  # noqa: T201
    print(f"\n{report.write(name, summaries, ratios)}")  # noqa: T201


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
