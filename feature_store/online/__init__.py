"""Read features online, from Amazon Keyspaces or anything that speaks its protocol.

with online.Connection.from_environment() as connection:
    reader = connection.reader(registry.view("energy_recent_features"), online.Options(max_age=2))
    answer = reader.get("MAC000002")
    answer.day, answer.age, answer["energy_sum_mean_7days"]
"""

from feature_store.endpoint import Endpoint, OnlineError
from feature_store.online.answers import (
    Answer,
    DeadlineError,
    EntityError,
    PoisonedRowError,
    ReadError,
    RefusedError,
    StaleError,
    State,
    ThrottledError,
    UnknownFeatureError,
    UnreachableError,
    Value,
)
from feature_store.online.connection import KEYSPACE, Connection, connect
from feature_store.online.reader import Observer, Options, Reader

__all__ = [
    "KEYSPACE",
    "Answer",
    "Connection",
    "DeadlineError",
    "Endpoint",
    "EntityError",
    "Observer",
    "OnlineError",
    "Options",
    "PoisonedRowError",
    "ReadError",
    "Reader",
    "RefusedError",
    "StaleError",
    "State",
    "ThrottledError",
    "UnknownFeatureError",
    "UnreachableError",
    "Value",
    "connect",
]
