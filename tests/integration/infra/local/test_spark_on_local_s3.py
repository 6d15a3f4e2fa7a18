"""Spark as the set-up configures it reads and writes Delta on the local S3 under s3://."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from infra.local.spark_defaults import BY_HAND, properties_text, spark_defaults

pytestmark = pytest.mark.integration

JOB = """
import json, sys
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
spark = SparkSession.builder.getOrCreate()
uri = sys.argv[1]
rows = spark.range(100).select("id", (F.col("id") % 4).alias("g"))
rows.write.format("delta").partitionBy("g").save(uri)
three = spark.range(5).select("id", F.lit(3).cast("long").alias("g"))
three.write.format("delta").mode("overwrite").option("replaceWhere", "g = 3").save(uri)
read = spark.read.format("delta").load(uri)
zone = spark.conf.get("spark.sql.session.timeZone")
print(json.dumps({"rows": read.count(), "three": read.where("g = 3").count(), "zone": zone}))
"""


def test_a_delta_table_is_written_replaced_in_part_and_read_by_others(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text(properties_text(spark_defaults(BY_HAND)))
    uri = f"s3://{s3.bucket}/delta/spark"
    done = subprocess.run(
        [sys.executable, "-c", JOB, uri],
        env={"PATH": os.environ["PATH"], **s3.env, "SPARK_CONF_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"rows": 80, "three": 5, "zone": "UTC"}
    assert "Exception" not in done.stderr
    assert pl.read_delta(uri, storage_options=s3.env).filter(pl.col("g") == 3)["id"].sort().to_list() == list(range(5))
