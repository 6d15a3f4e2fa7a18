"""The days that a run of the backfill does, and in what pieces; before, and without a cluster, what it would do."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import DownstreamTasksSkipped

from feature_store import layout, registry
from feature_store.calendar import DayRange, parse_day
from feature_store_airflow.failures import OutlookFailed, records_failure
from feature_store_airflow.options import DRY_RUN, REPROCESS, SKIP_SYNC, VIEWS
from feature_store_airflow.settings import FEATURES, READINGS, RUN_FOLDER, setting

LEFT = "left"  # the XCom in which it says what is not right and left as it is
# What Airflow maps over at most is its setting [core] max_map_length, 1,024 unless it is changed.
MOST_CHUNKS = 1_000
OUTLOOK = "outlook"  # the XCom in which it says in words what is to be done; .json in the run's folder for the page


def sign_in(aws_conn_id: str, region: str) -> None:
    """Let delta-rs ask S3 as a connection does: in this process, which is one task's alone."""
    signed = S3Hook(aws_conn_id=aws_conn_id).get_credentials()
    given = {
        "AWS_ACCESS_KEY_ID": signed.access_key,
        "AWS_SECRET_ACCESS_KEY": signed.secret_key,
        "AWS_SESSION_TOKEN": signed.token,
        "AWS_REGION": region,
    }
    os.environ.update({name: value for name, value in given.items() if value})


class OutlookOperator(BaseOperator):
    """Look what there is of the run's days, and say what is to be done."""

    template_fields: Sequence[str] = ("readings", "features", "keyspace", "region", "chunk_rows", "folder")

    def __init__(self, *, aws_conn_id: str = "aws_default", **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task."""
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.readings, self.features, self.folder = READINGS, FEATURES, RUN_FOLDER
        self.keyspace, self.region = setting("keyspaces.keyspace"), setting("region")
        # A setting; without it, as feature_store.backfill has it.
        self.chunk_rows = "{{ var.json.feature_store.get('backfill', {}).get('chunk_rows', '') }}"

    def look(self, context: Context) -> dict[str, Any]:
        """Look, say it in the log, as XCom and for the page, and return it as the page has it.

        Raises:
            OutlookFailed: a table can't be read, or there are more chunks than Airflow takes.
        """
        # What reads Delta is for the task: not for each process that loads the plugins.
        from feature_store import backfill  # noqa: PLC0415
        from feature_store.outlook import CHUNK_ROWS, Outlook  # noqa: PLC0415

        plan = context["ti"].xcom_pull(task_ids="plan")
        days = DayRange(parse_day(plan["start"]), parse_day(plan["end"]))
        online = not plan.get(SKIP_SYNC)
        sign_in(self.aws_conn_id, self.region)
        views = {}
        for view in registry.views():
            if view.name in plan[VIEWS]:
                features = self.features.replace(layout.VIEW, view.name)
                store = backfill.Store(self.readings, features, f"{self.keyspace}.{view.name}" if online else None)
                try:
                    views[view] = backfill.look(store, view, days)
                except backfill.BackfillError as error:
                    raise OutlookFailed(
                        f"What there is of {days} can't be told: {error} Next: see S3, then clear this task."
                    ) from error
        most = int(self.chunk_rows or CHUNK_ROWS)
        outlook = Outlook(days, backfill.Reprocess(plan[REPROCESS]), views, self.region, most, online)
        if len(outlook.chunks) > MOST_CHUNKS:
            raise OutlookFailed(
                f"{days} would be {len(outlook.chunks):,} chunks, and Airflow maps {MOST_CHUNKS:,} tasks at most. "
                "Next: trigger the run again for fewer days, or with larger chunks (`backfill.chunk_rows` in the "
                "Variable feature_store)."
            )
        lines = list(outlook.lines())
        for line in lines:
            self.log.info("%s", line)
        context["ti"].xcom_push(key=OUTLOOK, value="\n".join(lines))
        context["ti"].xcom_push(key=LEFT, value=outlook.left)
        bucket, key = S3Hook.parse_s3_url(f"{self.folder}/{OUTLOOK}.json")
        last = "sync" if online else "validate"
        said = {"dry_run": plan[DRY_RUN], "last_job": last, "lines": lines, **outlook.as_json()}
        S3Hook(aws_conn_id=self.aws_conn_id).load_string(json.dumps(said), key, bucket, replace=True)
        return said


class PreviewOperator(OutlookOperator):
    """In a dry run, say what would be done, and let nothing be done; else leave it to ChooseDaysOperator."""

    @records_failure
    def execute(self, context: Context) -> None:
        """Look, if it is a dry run.

        Raises:
            DownstreamTasksSkipped: it is; the task is a success.
            OutlookFailed: a table can't be read.
        """
        if not context["ti"].xcom_pull(task_ids="plan")[DRY_RUN]:
            return
        self.look(context)
        raise DownstreamTasksSkipped(tasks=["create_cluster"])  # type: ignore[no-untyped-call] # Airflow's own


class ChooseDaysOperator(OutlookOperator):
    """Return the days to do in chunks, the oldest first, as the readings are now: [{"start", "end", "days"}]."""

    @records_failure
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Look; OutlookFailed as there."""
        chunks: list[dict[str, Any]] = self.look(context)["chunks"]
        return chunks
