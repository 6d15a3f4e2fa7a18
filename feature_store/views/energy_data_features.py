"""Electricity use of London households over months, in the original kit's columns."""

from __future__ import annotations

from feature_store.household_readings import HOUSEHOLD_READINGS
from feature_store.view import Aggregation, FeatureView, Function, Window

VIEW = FeatureView(
    name="energy_data_features",
    description="A household's electricity use, of the day and over months.",
    source=HOUSEHOLD_READINGS,
    windows=(Window("3months", months=3), Window("6months", months=6), Window("1yr", years=1)),
    aggregations=(
        Aggregation("energy_sum", Function.SUM, "energy_sum"),
        Aggregation("energy_count", Function.SUM, "energy_count"),
        Aggregation("energy_max", Function.MAX, "energy_max"),
        Aggregation("energy_mean", Function.MEAN, "energy_mean"),
        Aggregation("energy_stddev", Function.STDDEV, "energy_sum"),
    ),
)
