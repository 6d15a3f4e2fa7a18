"""Numbers for CloudWatch, which its alarms look at: tasks that failed, clusters left behind, how old the features are.

Off unless the Variable `feature_store` has `metrics_namespace`. Nothing fails because a number was not taken.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from feature_store import layout, metrics, registry
from feature_store_airflow.bucket import Bucket, StoreError
from feature_store_airflow.failures import MeasureFailed, records_failure

# What infra/aws/templates/monitoring.yaml has alarms on.
FAILED_TASKS, ORPHANED_CLUSTERS, FEATURE_AGE = "FailedTasks", "OrphanedClusters", "FeatureAge"
VIEW = "View"  # the dimension of a view's own age
SETTING = "metrics_namespace"
# Who has to be told of a failure does not wait for a CloudWatch that can't be reached.
SOON = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
NAMESPACE = f"{{{{ var.json.feature_store.get('{SETTING}') or '' }}}}"

log = logging.getLogger(__name__)

Value: TypeAlias = Mapping[str, Any]


def value(name: str, number: float, **dimensions: str) -> Value:
    """Make one value of a metric, as PutMetricData takes it."""
    named = [{"Name": key, "Value": each} for key, each in dimensions.items()]
    return {"MetricName": name, "Value": number, "Dimensions": named}


def publish(namespace: str | None, values: Iterable[Value], aws_conn_id: str = "aws_default") -> bool:
    """Publish values; whether they were taken. Without a namespace there is nobody to take them, which is right too."""
    if not namespace:
        return True
    try:
        client: Any = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="cloudwatch", config=SOON).conn
        client.put_metric_data(Namespace=namespace, MetricData=list(values))
    except (BotoCoreError, ClientError) as error:
        log.warning("CloudWatch took no values for its alarms: %s", error)
        return False
    return True


class MeasureAgesOperator(BaseOperator):
    """Publish how many days old the newest day online of each view is, and the highest of these ages.

    From `metrics/VIEW.json`, which `sync` keeps; a view that is not online yet has no age.
    """

    template_fields: Sequence[str] = ("namespace",)

    def __init__(self, *, aws_conn_id: str = "aws_default", **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task."""
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.namespace = NAMESPACE

    @records_failure
    def execute(self, context: Context) -> dict[str, int]:  # noqa: ARG002 - the operator's interface
        """Return the ages, by view.

        Raises:
            AirflowSkipException: no namespace is set.
            MeasureFailed: the ages can't be told, or CloudWatch does not take them.
        """
        if not self.namespace:
            raise AirflowSkipException(f"The Variable feature_store has no {SETTING}: nobody asks for ages.")
        try:
            ages = _ages(Bucket.open(), dt.datetime.now(dt.UTC).date())
        except (StoreError, metrics.MetricsError) as error:
            raise MeasureFailed(f"How old the features are can't be told: {error}") from error
        if not ages:
            self.log.info("No view is online yet.")
            return {}
        of_views = [value(FEATURE_AGE, age, **{VIEW: name}) for name, age in ages.items()]
        if not publish(self.namespace, [*of_views, value(FEATURE_AGE, max(ages.values()))], self.aws_conn_id):
            raise MeasureFailed("CloudWatch did not take the ages of the features. Next: see why in this log.")
        return ages


def _ages(bucket: Bucket, today: dt.date) -> dict[str, int]:
    keys = {view.name: layout.VIEW_METRICS.replace(layout.VIEW, view.name) for view in registry.views()}
    texts = bucket.texts(keys.values())
    known = {name: metrics.load(texts[key], name) for name, key in keys.items() if key in texts}
    return {name: (today - of.online).days for name, of in known.items() if of.online}
