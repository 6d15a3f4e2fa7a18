"""The London households' daily electricity readings: the source of the views, declared once."""

from __future__ import annotations

from feature_store.view import Measure, Source, Type, WholeDay

HOUSEHOLD_READINGS = Source(
    name="readings",
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
    # The kit's file says household_id, the published data set's files LCLid.
    landed_entities=("household_id", "LCLid"),
    landed_day="day",
    # Half hours.
    whole_day=WholeDay("energy_count", 48),
    ascending=(("energy_min", "energy_mean", "energy_max"), ("energy_min", "energy_median", "energy_max")),
)
