"""What AWS asks for what a feature store uses, beside Keyspaces' units (cost.py): dollars in one region, with sources.

No price list of AWS was reachable when this was written. What stands here was read in November 2026 in the places that
are named, and is as old as they are; whoever plans by it looks at AWS's own pages first (docs/cost.md says how to put
other prices in).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REGION = "us-east-1"


@dataclass(frozen=True)
class Price:
    """A price.

    Attributes:
        dollars: for a unit.
        unit: what that is.
        as_of: when it was so, as far as its source says.
        source: where it was read.
    """

    dollars: float
    unit: str
    as_of: str
    source: str


_KEYSPACES = "github.com/aws-samples/sample-pricing-calculator-for-keyspaces, src/calculator/data/mcs.json"
_MWAA = "c3x.dev/blog/mwaa-cost-managed-airflow"
_PRIVATELINK = "awsnegotiations.com/privatelink-cost-analysis.html"
_KMS = "aws.amazon.com/kms/pricing"

PRICES = {
    # A larger size of a family costs in proportion to its vCPUs; of m7g the source has `large`, half of this.
    "ec2-m5": Price(0.192, "xlarge-hour", "2019-08", "github.com/h2oai/sparkling-water/pull/1462"),
    "ec2-m6g": Price(0.154, "xlarge-hour", "2022-06", "github.com/aws/karpenter-provider-aws/pull/2002"),
    "ec2-m7g": Price(
        0.1632, "xlarge-hour", "2026-06", "factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026"
    ),
    # m5.xlarge $0.048, as the source of ec2-m5 quotes AWS's page; m6gd.4xlarge $0.18 (pull 377 of
    # github.com/ldbc/ldbc_snb_datagen_spark, 2022-02): a quarter of what EC2 asks, up to $0.27 (m5.12xlarge).
    "emr-share": Price(0.25, "of EC2's price", "2022-02", "github.com/h2oai/sparkling-water/pull/1462"),
    "emr-most": Price(0.27, "instance-hour", "2021-03", "github.com/aws/amazon-ec2-instance-selector/issues/80"),
    "ebs-gp3": Price(0.08, "GB-month", "2026", "github.com/aws/agent-toolkit-for-aws, ebs-optimization.md"),
    "ebs-gp2": Price(0.10, "GB-month", "2026", "github.com/aws/agent-toolkit-for-aws, ebs-optimization.md"),
    "s3-standard": Price(0.023, "GB-month", "undated", "devnotes.tech, understanding-aws-s3-pricing"),
    "s3-put": Price(0.005, "1,000 requests", "undated", "devnotes.tech, understanding-aws-s3-pricing"),
    "s3-get": Price(0.0004, "1,000 requests", "undated", "devnotes.tech, understanding-aws-s3-pricing"),
    "keyspaces-storage": Price(0.25, "GB-month", "2025-11-05", _KEYSPACES),
    "keyspaces-backup": Price(0.20, "GB-month", "2025-11-05", _KEYSPACES),
    "mwaa-small": Price(0.49, "hour", "2026", _MWAA),
    "vpc-endpoint": Price(0.01, "hour and zone", "2026-05", _PRIVATELINK),
    "vpc-endpoint-data": Price(0.01, "GB", "2026-05", _PRIVATELINK),
    "kms-key": Price(1.00, "month", "undated", _KMS),
    "secret": Price(0.40, "month", "undated", "hivebook.wiki, aws-secrets-manager-rotated-secrets"),
    "cloudwatch-alarm": Price(0.10, "month", "undated", "github.com/vreutova/infracost-idem-support/pull/2"),
    "cloudwatch-metric": Price(0.30, "month", "2026-02-15", "signoz.io/guides/cloudwatch-pricing"),
    "cloudwatch-dashboard": Price(
        3.00, "month", "2026-06-13", "factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards"
    ),
    "cloudwatch-logs": Price(
        0.50,
        "GB taken in",
        "2026-06-13",
        "factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards",
    ),
}

# vCPUs of a size; those of an xlarge are four in each family above.
VCPUS = {"xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "12xlarge": 48, "16xlarge": 64}


class UnknownPriceError(LookupError):
    """There is no such price, or none of such an instance; the message says which there are."""


def instance_hour(instance: str, prices: Mapping[str, float]) -> float:
    """The price of an instance of a cluster for an hour: EC2's on demand, and EMR's beside it.

    Args:
        instance: its type, such as `m5.xlarge`.
        prices: dollars by the names of PRICES.

    Raises:
        UnknownPriceError: of a family or a size that is not known here.
    """
    family, _, _ = instance.partition(".")
    if f"ec2-{family}" not in prices:
        known = ", ".join(name.removeprefix("ec2-") for name in prices if name.startswith("ec2-"))
        raise UnknownPriceError(
            f"There is no price of {instance}: the families are {known}; give one by --price ec2-{family}=DOLLARS."
        )
    ec2 = prices[f"ec2-{family}"] * vcpus(instance) / VCPUS["xlarge"]
    return ec2 + min(prices["emr-share"] * ec2, prices["emr-most"])


def vcpus(instance: str) -> int:
    """How many vCPUs an instance has; UnknownPriceError of a size that is not known here."""
    size = instance.partition(".")[2]
    if size not in VCPUS:
        raise UnknownPriceError(f"The size of {instance!r} is not known here: the sizes are {', '.join(VCPUS)}.")
    return VCPUS[size]
