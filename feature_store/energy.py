"""The first feature view: daily electricity readings of London households, in the original kit's columns."""

from __future__ import annotations

from feature_store.view import Aggregation, FeatureView, Function, Measure, Type, Window

ENERGY = FeatureView(
    name="energy_data_features",
    entity="id",
    day="day_date",
    # kWh of a household's half hours of one day, and how many of them were read. Meters count consumption: it is never
    # negative.
    measures=(
        Measure("energy_median", minimum=0),
        Measure("energy_mean", minimum=0),
        Measure("energy_max", minimum=0),
        Measure("energy_count", Type.INT, minimum=0),
        Measure("energy_std", minimum=0),
        Measure("energy_sum", minimum=0),
        Measure("energy_min", minimum=0),
    ),
    windows=(Window("3months", 3), Window("6months", 6), Window("1yr", 12)),
    aggregations=(
        Aggregation("energy_sum", Function.SUM, "energy_sum"),
        Aggregation("energy_count", Function.SUM, "energy_count"),
        Aggregation("energy_max", Function.MAX, "energy_max"),
        Aggregation("energy_mean", Function.MEAN, "energy_mean"),
        Aggregation("energy_stddev", Function.STDDEV, "energy_sum"),
    ),
    # The kit's file says household_id, the published data set's files LCLid.
    source_entities=("household_id", "LCLid"),
    source_day="day",
)
