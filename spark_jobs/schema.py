"""Let the online tables be what the views want: make what is missing, add new columns, refuse what would destroy."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from feature_store.endpoint import Endpoint, OnlineError, open_session
from feature_store.online_schema import DestructiveChangeError, Tables
from feature_store.sync import certificates
from feature_store.sync.certificates import OvertakenError, RecordsError
from feature_store.view import FeatureView
from spark_jobs import command
from spark_jobs.errors import JobError, Summary

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("schema", __doc__ or "", days=False)
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features, made or not")
    arguments.add_argument("--keyspace", required=True, help="keyspace of the online table, made if it is missing")
    arguments.add_argument("--table", required=True, help="name of the online table")
    command.add_view(arguments)
    return command.execute(arguments, None, argv, alone=run)


def run(args: argparse.Namespace) -> Summary:
    """Do it for a view; what was done: made, changed or nothing.

    Raises:
        JobError: it can't be done, or only by destroying something.
    """
    view: FeatureView = args.view
    name = f"{args.keyspace}.{args.table}"
    try:
        session = open_session(Endpoint.here())
        try:
            tables = Tables(session, args.keyspace)
            if not tables.is_there(args.table):
                # A table that was dropped and is made again is empty, whatever was certified of the one before. First:
                # whatever happens to the making, nobody takes it for the one before.
                known = certificates.known(args.features, name)
                certificates.forget(args.features, name, known, known)
            done = tables.ensure(view, args.table)
        finally:
            session.cluster.shutdown()
    except OvertakenError as error:
        raise JobError(f"{error}, and {name} is not there: run this again when that has ended.") from error
    except (OnlineError, DestructiveChangeError, RecordsError) as error:
        raise JobError(str(error) if str(error).endswith(".") else f"{error}.") from error
    return {"table": name, "done": done.value}


if __name__ == "__main__":
    sys.exit(main())
