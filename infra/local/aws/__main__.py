"""`python -m infra.local.aws`: serve the local AWS until TERM or INT."""

from __future__ import annotations

import logging
import signal
import sys
import threading

from infra.local.aws import tasks
from infra.local.aws.node import remove_leftovers
from infra.local.aws.server import LocalAws
from infra.local.settings import Stack, StackError

log = logging.getLogger("infra.local.aws")


def main() -> int:
    """Serve; 0 after a stop that was asked for, 2 if it can't start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    # boto3's and werkzeug's own lines name paths and say nothing that ours do not.
    for chatty in ("boto3", "botocore", "s3transfer", "urllib3", "werkzeug"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        stack = Stack.from_environment()
        aws = LocalAws(stack)  # it takes the port: from here on this stack's folder is ours alone
        for cluster_id in remove_leftovers(stack):
            log.info("removed what an earlier local AWS left of cluster %s", cluster_id)
        for task_id in tasks.remove_leftovers(stack):
            log.info("removed what an earlier local AWS left of task %s", task_id)
    except StackError as error:
        log.error("%s", error)  # noqa: TRY400 - it is for the person at the terminal, who needs no traceback
        return 2
    aws.start()
    log.info("local AWS on %s", stack.aws_url)
    stop.wait()
    log.info("stopping")
    aws.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
