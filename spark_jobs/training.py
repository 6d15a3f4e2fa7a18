"""Make a training set on Spark, where events or set do not fit into one process.

The arguments are those of `python -m feature_store training`, and so are the rows and the digests. What differs: events
are Parquet, a file or a folder of files; --out is a folder, in place of a set that is there: the rows, in no order, as
Parquet files, and the record beside them, which is written last; and there is no --as-known.

--rebuild URI makes the same rows again, from the record in a set of this or of the other engine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from feature_store import registry, training_command
from feature_store.training import Record, TrainingError
from feature_store.training_command import ArgumentsError
from feature_store.view import ViewError
from spark_jobs import command, training_sets
from spark_jobs.errors import JobError, Summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("training", "", days=False)
    training_command.add(arguments)
    arguments.description = __doc__
    return command.execute(arguments, run, argv, refuse=_refuse)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Make the set.

    Raises:
        JobError: events or tables are unfit, or a set would be another than its record's.
    """
    try:
        made = _made(spark, args)
    except TrainingError as error:
        raise JobError(f"No training set was made: {error}.") from error
    versions = {view.name: view.versions[0].number for view in made.views}
    return {"out": args.out, "rows": made.rows, "digest": made.digest, "features_versions": versions}


def _made(spark: SparkSession, args: argparse.Namespace) -> Record:
    if args.rebuild:
        record = Record.read(args.rebuild)
        return training_sets.rebuild(spark, record, args.out, args.events, uris=training_command.uris(args, record))
    asked, options = training_command.asked(args), training_command.options(args)
    if args.events:
        return training_sets.training_set(spark, args.events, asked, args.out, options)
    every = 1 if args.every is None else args.every
    return training_sets.training_set_by_day(spark, args.days, asked, args.out, options, every=every)


def _refuse(args: argparse.Namespace) -> str | None:
    try:
        if args.rebuild:
            training_command.check_alone(args)
        else:
            training_command.asked(args)
            training_command.options(args)
            training_command.check_events(args)
    except (ArgumentsError, TrainingError, ViewError, registry.UnknownViewError) as error:
        return str(error)
    return "--as-known is for sets that are made in one process" if args.as_known else None


if __name__ == "__main__":
    sys.exit(main())
