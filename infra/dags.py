"""What the DAGs need of an Airflow, whichever it is: that they are loaded, one Variable, one pool."""

from __future__ import annotations

DAGS = ("feature_store_daily", "feature_store_backfill", "feature_store_sweeper", "feature_store_simulation")
VARIABLE = "feature_store"  # a JSON object
POOL = "feature_store_lake"
POOL_SLOTS = 1
POOL_DESCRIPTION = "Delta on S3 has one writer at a time"
