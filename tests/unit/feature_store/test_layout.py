"""The places in the bucket, and that all who name them name the same."""

from __future__ import annotations

import pytest
from feature_store_airflow import settings

from feature_store import layout
from feature_store.energy import ENERGY
from feature_store.household_readings import HOUSEHOLD_READINGS
from infra.local import __main__ as command
from infra.local.settings import BUCKET, Stack

pytestmark = pytest.mark.unit


def test_the_places_that_other_peoples_programs_rely_on() -> None:
    assert layout.uri("lake", layout.READINGS) == "s3://lake/delta/readings"
    assert f"delta/{HOUSEHOLD_READINGS.name}" == layout.READINGS
    assert layout.uri("lake", layout.features(ENERGY)) == "s3://lake/delta/energy_data_features"
    assert layout.uri("lake", layout.LANDING) == "s3://lake/Dataset/"


def test_the_dags_and_make_env_name_the_same_places(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path))
    printed = command.environment(Stack.from_environment())
    assert printed["READINGS_URI"] == settings.READINGS.replace(settings.BUCKET, BUCKET)
    of_first = settings.FEATURES.replace(layout.VIEW, ENERGY.name)
    assert printed["FEATURES_URI"] == of_first.replace(settings.BUCKET, BUCKET)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a b.csv", "2014-02-27.csv"])
def test_what_ingest_takes(name: str) -> None:
    assert layout.is_csv(name)


@pytest.mark.parametrize("name", ["._a.csv", ".a.csv", "_a.csv.gz", "a.CSV", "a.csv.part", "a.gz", "a.parquet", "csv"])
def test_what_ingest_passes_over(name: str) -> None:
    assert not layout.is_csv(name)
