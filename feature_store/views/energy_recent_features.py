"""Electricity use of London households over days: what has changed lately, and how much of it was seen."""

from __future__ import annotations

from feature_store.household_readings import HOUSEHOLD_READINGS
from feature_store.view import Aggregation, FeatureView, Function, Window

VIEW = FeatureView(
    name="energy_recent_features",
    description="A household's electricity use over its last 7 and 28 days.",
    source=HOUSEHOLD_READINGS,
    takes=("energy_sum",),
    windows=(Window("7days", days=7), Window("28days", days=28)),
    aggregations=(
        Aggregation("energy_sum_min", Function.MIN, "energy_sum"),
        Aggregation("energy_sum_max", Function.MAX, "energy_sum"),
        Aggregation("energy_sum_mean", Function.MEAN, "energy_sum"),
        Aggregation("energy_sum_stddev", Function.STDDEV, "energy_sum"),
        Aggregation("days_seen", Function.DAYS_SEEN),
    ),
    # What is recent is asked for while it is: a household that is silent for a quarter has no recent use.
    retention=90,
)
