"""The feature views that are declared, as a data scientist asks for them; and what a deployment of them costs.

Exit status: 0 done; 1 diff found a difference, or a training set can't be rebuilt; 2 bad arguments, a wrong declaration
or no table.
"""

from __future__ import annotations

import argparse
import datetime as dt
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence

from feature_store import bill, cql, describe, live_table, registry, table_schema, training_command
from feature_store.calendar import DayRange, parse_day
from feature_store.prices import PRICES, UnknownPriceError
from feature_store.view import FeatureView, ViewError

DONE, DIFFERS, BAD = 0, 1, 2
WIDTH = 100

Command = Callable[[argparse.Namespace], tuple[int, str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    args = _parser().parse_args(argv)
    command: Command = args.command
    try:
        status, text = command(args)
    except (ViewError, registry.UnknownViewError, live_table.LiveTableError, UnknownPriceError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a command
        return BAD
    print(text, end="")  # noqa: T201 - the same
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m feature_store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        made.set_defaults(command=command)
        if name not in ("list", "cost", "training"):
            made.add_argument("name", metavar="NAME", help="of the view, as `list` shows it")
        return made

    add("list", _list, "list the views")
    add("describe", _describe, "show a view's windows, its columns, and the landed columns that they come from")
    keyspace = add("cql", _cql, "print the CQL of a view's online table")
    keyspace.add_argument("--keyspace", default=cql.KEYSPACE, help="that the table is in (default: %(default)s)")
    schema = add("schema", _schema, "print the schema of a view's Delta table, as DDL")
    schema.add_argument("--json", action="store_true", help="as JSON, as Delta and Spark have it")
    diff = add("diff", _diff, "compare a declaration with a live Delta table: exit status 0 if they agree, 1 if not")
    diff.add_argument("--table", required=True, metavar="URI", help="a path, or s3://bucket/key")
    verdicts = add("verdicts", _verdicts, "show which days validation has passed, and which it holds back and why")
    verdicts.add_argument(
        "--table", required=True, metavar="URI", help="the view's features: a path, or s3://bucket/key"
    )
    for name, what in (("--start", "first"), ("--end", "last")):
        verdicts.add_argument(
            name, type=_day, metavar="YYYY-MM-DD", help=f"{what} day (default: of all that there are)"
        )
    bill_ = add("cost", _cost, "say what a deployment costs a day and a month, beside the original kit")
    bill_.formatter_class, bill_.epilog = argparse.RawDescriptionHelpFormatter, inspect.getdoc(bill.Deployment)
    bill_.add_argument("--entities", type=int, default=5_500, metavar="N", help="how many (default: %(default)s)")
    for setting, default in bill.settings().items():
        option = f"--{setting.replace('_', '-')}"
        bill_.add_argument(
            option, type=type(default), default=default, metavar="X", help="as below (default: %(default)s)"
        )
    bill_.add_argument(
        "--price",
        type=_price,
        action="append",
        default=[],
        metavar="NAME=DOLLARS",
        help="another price than --prices has",
    )
    bill_.add_argument("--prices", action="store_true", help="only list the prices, with dates and sources")
    sets = add("training", training_command.run, "make a training set: for each event the features that it could know")
    training_command.add(sets)
    return parser


def _price(text: str) -> tuple[str, float]:
    name, _, dollars = text.partition("=")
    # A family of instances that is not known here may be given.
    if name not in PRICES and not name.startswith("ec2-"):
        raise argparse.ArgumentTypeError(f"there is no price {name!r}: --prices lists them")
    try:
        return name, float(dollars)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DOLLARS") from None


def _day(text: str) -> dt.date:
    try:
        return parse_day(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _list(_: argparse.Namespace) -> tuple[int, str]:
    return DONE, describe.listing(registry.views())


def _describe(args: argparse.Namespace) -> tuple[int, str]:
    return DONE, describe.description(registry.view(args.name))


def _cql(args: argparse.Namespace) -> tuple[int, str]:
    return DONE, cql.table(registry.view(args.name), args.keyspace)


def _schema(args: argparse.Namespace) -> tuple[int, str]:
    view = registry.view(args.name)
    return DONE, table_schema.as_json(view) if args.json else table_schema.ddl(view)


def _diff(args: argparse.Namespace) -> tuple[int, str]:
    view = registry.view(args.name)
    found = table_schema.differences(view, live_table.schema(args.table))
    return (DIFFERS if found else DONE), _report(view, args.table, found)


def _verdicts(args: argparse.Namespace) -> tuple[int, str]:
    from feature_store.validation import records  # noqa: PLC0415 - Arrow and Delta, which no other command needs

    view = registry.view(args.name)
    first, last = args.start or dt.date.min, args.end or dt.date.max
    try:
        found = records.verdicts(args.table, view, DayRange(first, last))
    except (records.RecordsError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - as above
        return BAD, ""
    rows = [("day", "verdict", "rows", "failed or warned", "released")]
    for day, judged in sorted(found.items()):
        said = ", ".join((*judged.failed, *judged.warned)) or "-"
        release = f"by {judged.release.by}: {judged.release.reason}" if judged.release else "-"
        rows.append((str(day), judged.verdict.value, f"{judged.rows:,}", said, release))
    return DONE, "\n".join(describe.table(rows)) + "\n" if found else f"No day of {view.name} was judged yet.\n"


def _cost(args: argparse.Namespace) -> tuple[int, str]:
    if args.prices:
        return DONE, "\n".join(bill.price_table()) + "\n"
    prices = {name: each.dollars for name, each in PRICES.items()}
    chosen = {name: getattr(args, name) for name in bill.settings()}
    asked = bill.Deployment(registry.views(), args.entities, **chosen, prices={**prices, **dict(args.price)})
    return DONE, "\n".join(asked.lines()) + "\n"


def _report(view: FeatureView, uri: str, found: Sequence[table_schema.Difference]) -> str:
    if not found:
        return f"{view.name} is {uri}: {len(view.columns)} columns, the same names, types and order.\n"
    lines = [f"{view.name} is not {uri}:"]
    for difference in found:
        lines += ["", *(f"  {difference.kind:<7}  {column}" for column in difference.columns)]
        lines += textwrap.wrap(f"{difference.kind}: {difference.meaning}", WIDTH, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
