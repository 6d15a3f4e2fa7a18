"""Training sets: what each event could have known of its entity's features, and the record that they are rebuilt from.

from feature_store import training

made = training.training_set(events, [training.Asked(view, "path/to/features")], training.Options(max_age=7))
made.write("set.parquet")
training.rebuild(training.Record.read("set.parquet"), events)
"""

from __future__ import annotations

from feature_store.training.asof import RepeatedKeyError
from feature_store.training.build import TrainingSet, rebuild, training_set, training_set_by_day
from feature_store.training.errors import TrainingError
from feature_store.training.events import EventsError, read_events
from feature_store.training.options import Asked, Options, OptionsError
from feature_store.training.record import NotTheSameError, Record, RecordError
from feature_store.training.tables import TableError, VersionGoneError

__all__ = [
    "Asked",
    "EventsError",
    "NotTheSameError",
    "Options",
    "OptionsError",
    "Record",
    "RecordError",
    "RepeatedKeyError",
    "TableError",
    "TrainingError",
    "TrainingSet",
    "VersionGoneError",
    "read_events",
    "rebuild",
    "training_set",
    "training_set_by_day",
]
