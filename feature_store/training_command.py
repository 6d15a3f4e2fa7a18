"""Make a training set: for each event what could be known of its entity's features, as a Parquet file.

The file holds the record of what it was made of: tables, versions, options and digests. --rebuild FILE makes the same
set again from that record, byte for byte.

An event of a date stands for the end of that day, and gets the row of that day or the newest before; an event with a
time of day gets the row of the day before, or the newest before that, as its own day is not over yet.

Exit status: 0 done; 1 a set can't be rebuilt, or would be another; 2 bad arguments, events or tables.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from feature_store import layout, registry
from feature_store.calendar import DayRange, parse_day

if TYPE_CHECKING:
    from feature_store.training import Asked, Options, Record, TrainingSet

DONE, NOT_THE_SAME, BAD = 0, 1, 2
# What else says how a set is made, which a record says itself.
_OPTIONS = (
    *("start", "end", "every", "entity", "time", "zone", "lag", "max_age", "known_on", "as_known"),
    *("version", "held_back", "full_names"),
)

T = TypeVar("T")


class ArgumentsError(Exception):
    """Arguments that do not go together; the message is one sentence."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.add_argument("--out", required=True, metavar="URI", help="of the Parquet file: a path, or s3://bucket/key")
    parser.add_argument(
        "--features", metavar="URI", help="of the views' Delta tables; {view} in it stands for each view's name"
    )
    parser.add_argument(
        "--view",
        dest="views",
        action="append",
        default=[],
        metavar="NAME[:FEATURE,...]",
        help="of which view all features, or these; may be given several times",
    )
    of = parser.add_argument_group("for which events: a file of them, or every entity on the days of a range")
    of.add_argument("--events", metavar="URI", help="a .csv, .csv.gz or .parquet file")
    for name, what in (("--start", "first"), ("--end", "last")):
        of.add_argument(name, type=_argument(parse_day), metavar="YYYY-MM-DD", help=f"{what} day of the range")
    of.add_argument("--every", type=_argument(_number), metavar="N", help="only every so many days (default: each)")
    of.add_argument("--entity", metavar="COLUMN", help="of the events' entities (default: the view's key)")
    of.add_argument("--time", metavar="COLUMN", help="of the events' dates or moments (default: event_time)")
    known = parser.add_argument_group("what an event may know")
    known.add_argument("--zone", metavar="NAME", help="time zone of the features' days (default: UTC)")
    known.add_argument(
        "--lag",
        type=_argument(_hours),
        metavar="HOURS",
        help="after the end of a day until its row is there (default: 0)",
    )
    known.add_argument(
        "--max-age", type=_argument(_number), metavar="DAYS", help="between a row and the event (default: any)"
    )
    known.add_argument(
        "--known-on",
        type=_argument(parse_day),
        metavar="YYYY-MM-DD",
        help="take the tables as they were at the end of that day (UTC)",
    )
    known.add_argument(
        "--as-known", action="store_true", help="take for each event the tables as they were just before it"
    )
    known.add_argument(
        "--version",
        type=_argument(_version),
        action="append",
        default=[],
        metavar="VIEW=N",
        help="of the view's table (default: the newest)",
    )
    known.add_argument("--held-back", action="store_true", help="take days, too, that validation holds back")
    parser.add_argument("--full-names", action="store_true", help="call every feature VIEW__FEATURE")
    parser.add_argument("--rebuild", metavar="URI", help="a training set to make again, from the record in its file")


def run(args: argparse.Namespace) -> tuple[int, str]:
    """Make the set; the exit status and what there is to say."""
    from feature_store import training  # noqa: PLC0415 - Arrow, which the other commands do without

    try:
        made = _rebuilt(args) if args.rebuild else _made(args)
        made.write(args.out)
    except (training.NotTheSameError, training.VersionGoneError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a command
        return (NOT_THE_SAME if args.rebuild else BAD), ""
    except (training.TrainingError, ArgumentsError, OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the same
        return BAD, ""
    return DONE, _said(made, args.out)


def _rebuilt(args: argparse.Namespace) -> TrainingSet:
    from feature_store import training  # noqa: PLC0415 - as above

    check_alone(args)
    record = training.Record.read(args.rebuild)
    return training.rebuild(record, args.events, uris=uris(args, record))


def _made(args: argparse.Namespace) -> TrainingSet:
    from feature_store import training  # noqa: PLC0415 - as above

    of, how = asked(args), options(args)
    check_events(args)
    if args.events:
        return training.training_set(args.events, of, how)
    every = 1 if args.every is None else args.every
    return training.training_set_by_day(DayRange(args.start, args.end), of, how, every=every)


def check_alone(args: argparse.Namespace) -> None:
    """Refuse what a record says itself, by an ArgumentsError."""
    given = [
        name for name in _OPTIONS if (value := getattr(args, name)) is not None and value is not False and value != []
    ]
    if more := [*given, *(["view"] if args.views else [])]:
        raise ArgumentsError(f"--rebuild takes --events, --features and --out alone: not --{more[0].replace('_', '-')}")


def check_events(args: argparse.Namespace) -> None:
    """Refuse events and days together, or neither, by an ArgumentsError."""
    by_day = any(each is not None for each in (args.start, args.end, args.every))
    if bool(args.events) == by_day or (by_day and not (args.start and args.end)):
        raise ArgumentsError("it takes --events, or --start and --end (and --every): one of them")


def asked(args: argparse.Namespace) -> list[Asked]:
    """The features that are asked for; ArgumentsError or OptionsError if these are none."""
    from feature_store.training import Asked  # noqa: PLC0415 - as above

    if not args.views or not args.features:
        raise ArgumentsError("it takes --features and at least one --view")
    if len(args.views) > 1 and layout.VIEW not in args.features:
        raise ArgumentsError(f"--features {args.features} is one table: with {layout.VIEW} in it it names each view's")
    versions = dict(args.version)
    made = []
    for name, _, features in (text.partition(":") for text in args.views):
        of = tuple(features.split(",")) if features else None
        made.append(Asked(registry.view(name), _uri(args.features, name), of, versions.pop(name, None)))
    if versions:
        raise ArgumentsError(f"--version names {next(iter(versions))}, which no --view does")
    return made


def options(args: argparse.Namespace) -> Options:
    """The options; OptionsError if they contradict each other."""
    from feature_store.training import Options  # noqa: PLC0415 - as above

    given = {name: value for name in Options.__dataclass_fields__ if (value := getattr(args, name)) is not None}
    return Options(**given)


def uris(args: argparse.Namespace, record: Record) -> dict[str, str] | None:
    """Where the tables of a record are now, if that is said."""
    return {view.name: _uri(args.features, view.name) for view in record.views} if args.features else None


def _uri(features: str, view: str) -> str:
    return features.replace(layout.VIEW, view)


def _said(made: TrainingSet, out: str) -> str:
    lines = [f"{out}: {made.table.num_rows:,} rows, {made.table.num_columns} columns, digest {made.record.digest}"]
    for view in made.record.views:
        there = made.table[f"{view.name}__day"]
        versions = ", ".join(str(version.number) for version in view.versions) or "none"
        lines.append(
            f"{view.name}: version {versions} of {view.uri}, a row for {len(there) - there.null_count:,} events, "
            f"days held back: {len(view.held_back)}"
        )
    return "\n".join(lines) + "\n"


def _argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """What argparse says of a wrong argument is what reading it says."""

    def argument(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return argument


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number from 0")
    return int(text)


def _hours(text: str) -> dt.timedelta:
    try:
        return dt.timedelta(seconds=round(float(text) * 3600))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a number of hours") from None


def _version(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not (name and number.isdecimal()):
        raise ValueError(f"{text!r} is not VIEW=N")
    return name, int(number)
