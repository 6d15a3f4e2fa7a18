"""The Spark configuration of this machine: the one place where jars, the S3 endpoint and the sizes are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.local.settings import HOST, JARS

# What `python -m spark_jobs.x` by hand has; a node of the local EMR gets the connector by --jars, as on AWS.
BY_HAND = ("delta", "s3a", "connector")


def spark_defaults(jar_sets: Sequence[str]) -> dict[str, str]:
    """The properties of a spark-defaults.conf for local Spark with these sets of jars on its class path."""
    return {
        "spark.master": "local[2]",
        "spark.driver.memory": "2g",
        # Jobs of a minute on two cores: the second compiler and the parallel collector cost more than they give.
        # With that compiler: the main job's four steps 123 s instead of 99, features of 3.5 million rows 41 s of 54.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.driver.extraClassPath": ":".join(f"{JARS / name}/*" for name in jar_sets),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        # Spark's and Delta's defaults (200 and 50 tasks) are for clusters: here they are most of a job's time.
        "spark.sql.shuffle.partitions": "4",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # On EMR s3:// is EMRFS; here it is S3A, so that the jobs' URIs are the same.
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        # Delta's checksum files would go by Hadoop's other interface, whose S3A refuses to be called s3://.
        "spark.sql.streaming.checkpointFileManagerClass": (
            "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager"
        ),
        "spark.hadoop.fs.s3a.path.style.access": "true",
        # Resolved by Hadoop in the job's own environment: no job, and no file, knows an address.
        "spark.hadoop.fs.s3a.endpoint": "${env.AWS_ENDPOINT_URL_S3:-}",
        "spark.hadoop.fs.s3a.endpoint.region": "${env.AWS_REGION:-}",
    }


def properties_text(properties: Mapping[str, str]) -> str:
    """Properties as the text of a spark-defaults.conf."""
    return "".join(f"{key} {value}\n" for key, value in properties.items())
