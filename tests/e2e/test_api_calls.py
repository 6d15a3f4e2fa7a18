"""What the DAGs, the pages in Airflow and the clusters ask of AWS: no more than what was reviewed.

What simulations ask, tests/e2e/test_simulation.py looks at.

GOLDEN_REWRITE=1 adds what is new to the list. tests/unit/infra/aws/test_recorded_calls.py compares
that with the policies.
"""

from __future__ import annotations

import datetime as dt
import os

import httpx
import pytest

from tests import api_calls
from tests.e2e.conftest import Live, generated

pytestmark = pytest.mark.e2e

BACKFILL, SWEEPER = "feature_store_backfill", "feature_store_sweeper"


def test_nothing_is_asked_of_aws_that_is_not_in_the_list(live: Live) -> None:
    """After a daily run, which the stack has begun with: what else there is that calls AWS."""
    days = {
        "start": (live.day - dt.timedelta(days=45)).isoformat(),
        "end": (live.day - dt.timedelta(days=44)).isoformat(),
    }
    assert live.run(BACKFILL, **days)[1] == "success"  # it only looks
    run_id, state = live.run(BACKFILL, **days, dry_run=False)
    assert state == "success"
    live.api.unpause(SWEEPER)
    assert live.run(SWEEPER)[1] == "success"
    entity = generated(live)[0].read_text().splitlines()[1].split(",")[0]
    for page in (f"?entity={entity}", f"runs/{BACKFILL}/{run_id}", f"reports/{BACKFILL}/{run_id}"):
        answer = httpx.get(f"{live.stack.airflow_url}/feature-store/{page}", timeout=60, follow_redirects=True)
        assert answer.status_code == httpx.codes.OK, page
    seen = api_calls.recorded(live.stack)
    assert {call.role for call in seen} >= {"airflow", "node"}
    if os.environ.get("GOLDEN_REWRITE") == "1":
        api_calls.write(seen | (api_calls.read() if api_calls.FILE.exists() else set()))
    assert seen <= api_calls.read()
