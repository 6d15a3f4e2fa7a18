"""What both commands have in common: the log, the summary in the last line, and how they end."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

DONE, FAILED, BAD_ARGUMENTS = 0, 1, 2


def log_to_stderr() -> None:
    """Say what is done, a line at a time, on stderr: stdout has the summary alone."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # What they say of retries and connections, with tracebacks, is in what is counted, and in our own errors.
    for name in ("cassandra", "botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def end(status: int, summary: Mapping[str, Any]) -> int:
    """Print the summary as one line of JSON, the last one; the exit status, which is given."""
    sys.stdout.write(json.dumps(summary) + "\n")
    sys.stdout.flush()
    return status
