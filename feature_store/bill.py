"""What a feature store costs a day and a month, for so many entities, beside what the original kit would.

Units and sizes follow from the declared views (cost.py), seconds from what was measured (speeds.py), and prices.py has
the prices. What was not measured is a field with a default that says so: whoever knows better gives another value.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from feature_store import cost, describe, speeds
from feature_store.energy import ENERGY
from feature_store.prices import PRICES, REGION, instance_hour, vcpus
from feature_store.view import FeatureView

HOURS_A_DAY, DAYS_A_MONTH = 24, 365 / 12
HOURS_A_MONTH = HOURS_A_DAY * DAYS_A_MONTH
GIB = 2**30
MILLION = 1e6

ROW_OVERHEAD_BYTES = 100  # that Keyspaces stores of each row (calculating-row-size.html)
# Bytes that S3 holds of a reading as it landed, of a reading in Delta and of a row of features, in compressed Parquet:
# README.md (15.0 MB of 175,268), benchmarks/data.py (4 GB of 180 million), ADR 0010 (1 MB of 5,500; random values).
LANDED_BYTES, READING_BYTES, FEATURES_BYTES = 86, 22, 182
EBS_GB = 64  # of a node: EMR/cluster.json, two volumes of 32
STEP_HOURS = 2  # that a step of feature_store_daily may take

# The original kit, as its README makes it: one master and one core node, which stay up.
KIT_INSTANCE, KIT_NODES = "m5.xlarge", 2

MONEY = "{:,.2f}"


@dataclass(frozen=True)
class Deployment:
    """How large a feature store is, and what it runs on.

    Attributes:
        views: the feature views, each of which has a row a day of each entity.
        entities: how many.
        master: the instance type of a cluster's master node.
        core: that of its core nodes.
        core_count: how many of these there are.
        days: of history that are kept, and of views without a retention online.
        start_minutes: from the request of a cluster to its first step, and of its end. Not measured: no cluster was
            started on AWS.
        endpoints: interface endpoints of the VPC, as many as the stack `network` makes with managed Airflow (S3 has a
            gateway, which costs nothing).
        zones: availability zones that each is in.
        keys: customer managed keys of KMS.
        alarms: of CloudWatch, as many as the stack `monitoring` makes.
        metrics: of CloudWatch, that the DAGs publish besides one of each view.
        logs_gb: that CloudWatch takes in a month. Not measured.
        puts: requests of a run that write to S3, or list it. Not measured.
        gets: those that read. Not measured.
        lookups: million reads of one entity's newest row a day.
        prices: dollars by the names of PRICES.
    """

    views: Sequence[FeatureView]
    entities: int
    master: str = "m7g.xlarge"
    core: str = "m7g.xlarge"
    core_count: int = 1
    days: int = 365
    start_minutes: float = 10.0
    endpoints: int = 13
    zones: int = 2
    keys: int = 1
    alarms: int = 6
    metrics: int = 3
    logs_gb: float = 1.0
    puts: int = 1_000
    gets: int = 10_000
    lookups: float = 1.0
    prices: Mapping[str, float] = field(default_factory=lambda: {name: each.dollars for name, each in PRICES.items()})

    @cached_property
    def steps(self) -> dict[str, float]:
        """Seconds of each step of a daily run: measured on two cores, and more cores do more where they can."""
        spark = vcpus(self.core) * self.core_count / speeds.CORES
        day = dt.date(2025, 12, 31)
        readings = sum((day - view.longest.first_day(day)).days + 1 for view in self.views) * self.entities
        return {
            "schema": speeds.STEP_SECONDS,
            "ingest": speeds.STEP_SECONDS + self.entities / (speeds.SPARK_ROWS * spark),
            "featurize": speeds.STEP_SECONDS + readings / (speeds.DAY_READINGS * spark),
            # One process on the master node, which uses its cores; and one that does not.
            "validate": speeds.STEP_SECONDS + self.rows / (speeds.DAY_VALIDATED * vcpus(self.master) / speeds.CORES),
            "sync": speeds.STEP_SECONDS + self.rows / speeds.SYNC_ROWS,
        }

    @property
    def minutes(self) -> float:
        """How long a cluster is up a day."""
        return self.start_minutes + sum(self.steps.values()) / 60

    @property
    def rows(self) -> int:
        """Rows of features that a day brings."""
        return self.entities * len(self.views)

    @property
    def leaving(self) -> int:
        """Rows that leave the online tables a day, by the views' retention."""
        return self.entities * sum(self.kept(view) < self.days for view in self.views)

    def kept(self, view: FeatureView) -> int:
        """How many days of a view are online."""
        return self.days if view.retention is None else min(self.days, view.retention)

    def cluster_hour(self) -> float:
        """The price of an hour of the cluster, with its disks."""
        nodes = instance_hour(self.master, self.prices) + self.core_count * instance_hour(self.core, self.prices)
        return nodes + (1 + self.core_count) * EBS_GB * self.prices["ebs-gp3"] / HOURS_A_MONTH

    def write_units(self) -> int:
        """Write units of a day: rows that come, and rows that leave."""
        return sum(self.entities * cost.write_units(_row_bytes(view)) for view in self.views) + self.leaving

    def read_units(self) -> int:
        """Read units of a day's proof: each entity that was written or deleted is read by itself."""
        return self.rows + self.leaving

    def sent_gb(self) -> float:
        """What goes to Keyspaces and comes back a day, about: it passes an endpoint of the VPC."""
        return 2 * self.entities * sum(_row_bytes(view) for view in self.views) / GIB

    def online_gb(self) -> float:
        """What Keyspaces holds once so many days are kept."""
        sizes = (self.kept(view) * (_row_bytes(view) + ROW_OVERHEAD_BYTES) for view in self.views)
        return self.entities * sum(sizes) / GIB

    def lake_gb(self) -> float:
        """What S3 holds once so many days are kept; superseded versions of the tables are not counted."""
        bytes_a_day = LANDED_BYTES + READING_BYTES + FEATURES_BYTES * len(self.views)
        return self.entities * self.days * bytes_a_day / GIB

    def daily(self) -> dict[str, float]:
        """Dollars a day, by what they are for."""
        price, month = self.prices, DAYS_A_MONTH
        units = cost.PRICES[REGION]
        return {
            "EMR, EC2, EBS": self.minutes / 60 * self.cluster_hour(),
            "Keyspaces, writes": self.write_units() * units.write_units / MILLION,
            "Keyspaces, the proof": self.read_units() * units.read_units / MILLION,
            "Keyspaces, storage": self.online_gb() * price["keyspaces-storage"] / month,
            "Keyspaces, backups": self.online_gb() * price["keyspaces-backup"] / month,
            "Keyspaces, look-ups": self.lookups * units.read_units,
            "S3": self.lake_gb() * price["s3-standard"] / month
            + (self.puts * price["s3-put"] + self.gets * price["s3-get"]) / 1000,
            "managed Airflow": HOURS_A_DAY * price["mwaa-small"],
            "VPC endpoints": HOURS_A_DAY * self.endpoints * self.zones * price["vpc-endpoint"]
            + self.sent_gb() * price["vpc-endpoint-data"],
            "KMS, secret, CloudWatch": (
                self.keys * price["kms-key"]
                + price["secret"]
                + self.alarms * price["cloudwatch-alarm"]
                + (self.metrics + len(self.views)) * price["cloudwatch-metric"]
                + price["cloudwatch-dashboard"]
                + self.logs_gb * price["cloudwatch-logs"]
            )
            / month,
        }

    def daily_of_the_kit(self) -> dict[str, float]:
        """What the original kit would cost a day, by the same names: all rows of its one view anew with each run.

        Its cluster stays as it is, however many entities there are: what a larger one would cost is not counted.
        """
        price, month = self.prices, DAYS_A_MONTH
        units = cost.PRICES[REGION]
        rows = self.entities * self.days
        size = _row_bytes(ENERGY)
        node = instance_hour(KIT_INSTANCE, price) + EBS_GB * price["ebs-gp2"] / HOURS_A_MONTH
        lake = self.entities * self.days * (LANDED_BYTES + FEATURES_BYTES) / GIB
        return {
            "EMR, EC2, EBS": HOURS_A_DAY * KIT_NODES * node,
            "Keyspaces, writes": rows * cost.write_units(size) * units.write_units / MILLION,
            "Keyspaces, storage": rows * (size + ROW_OVERHEAD_BYTES) / GIB * price["keyspaces-storage"] / month,
            # All rows of the household, of which the newest one was wanted.
            "Keyspaces, look-ups": self.lookups * cost.read_units(self.days * size) * units.read_units,
            "S3": lake * price["s3-standard"] / month,
        }

    def lines(self) -> Iterator[str]:
        """Say all of it in words and figures, line by line."""
        steps = ", ".join(f"{name} {duration(seconds)}" for name, seconds in self.steps.items())
        yield f"{self.entities:,} entities, {len(self.views)} view(s), {self.days} days kept; {REGION}"
        yield f"cluster: {self.master} and {self.core_count} x {self.core}, ${self.cluster_hour():.3f} an hour"
        yield f"a run: {duration(self.minutes * 60)} of it; start and end {self.start_minutes:g} min (assumed), {steps}"
        for name, seconds in self.steps.items():
            if seconds > STEP_HOURS * 3600:
                yield f"{name} takes longer than the {STEP_HOURS} h that a step may: as it is, this does not run"
        yield (
            f"online: {self.write_units():,} write units a day, {self.read_units():,} read units to prove them, "
            f"{self.online_gb():,.1f} GB; S3 {self.lake_gb():,.1f} GB"
        )
        yield ""
        ours, kit = self.daily(), self.daily_of_the_kit()
        rows = [("dollars", "a day", "a month", "the kit, a day", "a month")]
        for name, dollars in [*ours.items(), ("all", sum(ours.values()))]:
            other = sum(kit.values()) if name == "all" else kit.get(name)
            rows.append((name, *_money(dollars), *(("-", "-") if other is None else _money(other))))
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        for name, *figures in rows:
            cells = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
            yield "  ".join([name.ljust(widths[0]), *cells])


def price_table() -> Iterator[str]:
    """List the prices, each with its date and source."""
    units = cost.PRICES[REGION]
    known = f"{REGION}, {cost.PRICES_AS_OF}"
    rows = [("name", "dollars", "for", "as of", "source")]
    rows += [
        ("(cost.py)", f"{units.write_units:g}", "million write units", known, "as keyspaces-storage"),
        ("(cost.py)", f"{units.read_units:g}", "million read units", known, "as keyspaces-storage"),
    ]
    rows += [(name, f"{each.dollars:g}", each.unit, each.as_of, each.source) for name, each in PRICES.items()]
    return describe.table(rows)


def duration(seconds: float) -> str:
    """Say how long something takes."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"


def settings() -> dict[str, int | float | str]:
    """What a person may set of a deployment, by name, with its default."""
    found = {each.name: each.default for each in dataclasses.fields(Deployment)}
    return {name: default for name, default in found.items() if isinstance(default, int | float | str)}


def _row_bytes(view: FeatureView) -> int:
    return cost.row_bytes(view, cost.ENTITY_BYTES)


def _money(dollars: float) -> tuple[str, str]:
    return MONEY.format(dollars), MONEY.format(dollars * DAYS_A_MONTH)
