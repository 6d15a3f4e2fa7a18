"""The guide to the first hour: what it shows is pasted, in order, into one Python session beside real stores."""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from deltalake import write_deltalake
from matplotlib.image import imread

from feature_store import compute, cql, layout, live_table, offline, registry
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from infra.local import generate
from infra.local.settings import ROOT
from spark_jobs import schema as schema_job
from spark_jobs import sync
from tests import first_hour
from tests.integration.conftest import RunningS3
from tests.integration.sync.conftest import environment, server

pytestmark = pytest.mark.integration

TODAY = dt.date(2026, 11, 25)  # the page's; the generated readings follow from it
AGE = re.compile(r"\d+ days old")


@dataclass(frozen=True)
class Hour:
    """What the session has left: what each block has printed, and its folder."""

    printed: list[str]
    folder: Path


@pytest.fixture(scope="module")
def hour(s3: RunningS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hour]:
    folder = tmp_path_factory.mktemp("first-hour")
    with server(folder / "stack") as (cassandra, _), pytest.MonkeyPatch.context() as patch:
        variables = {
            **s3.env,
            **environment(cassandra),
            offline.BUCKET: s3.bucket,
            "READINGS_URI": layout.uri(s3.bucket, layout.READINGS),
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        leave_what_make_run_leaves()
        yield Hour(first_hour.paste(sys.executable, folder, os.environ | {"PYTHONPATH": str(ROOT)}), folder)


def leave_what_make_run_leaves() -> None:
    """The readings of 400 days, and the features of the last of them, in Delta and online."""
    storage, days = live_table.storage_options(os.environ), DayRange(TODAY, TODAY)
    made = generate.generate(TODAY).rename({"household_id": ENERGY.entity, "day": ENERGY.day})
    readings = made.select([column.name for column in ENERGY.readings]).to_arrow().cast(schema(ENERGY.readings))
    write_deltalake(os.environ["READINGS_URI"], readings, storage_options=storage)
    for view in registry.views():
        uri = offline.uri(view)
        write_deltalake(uri, compute.features(view, readings, days), storage_options=storage)
        online = {"view": view, "features": uri, "keyspace": cql.KEYSPACE, "table": view.name}
        schema_job.run(Namespace(**online))
        nothing = dict.fromkeys(("features_version", "budget", "certificate", "metrics"))
        sync.run(Namespace(**online, **nothing, days=days, changed=False, whole="no"))


@pytest.mark.parametrize("number", range(len(first_hour.BLOCKS)))
def test_each_block_prints_what_the_page_shows(hour: Hour, number: int) -> None:
    _, shown = first_hour.BLOCKS[number]
    printed = hour.printed[number]
    # How old the page's last day is depends on when it is read.
    assert first_hour.says_the_same(AGE.sub("N days old", printed), AGE.sub("N days old", shown)), printed


def test_the_picture_is_the_one_that_the_page_shows(hour: Hour) -> None:
    drawn, shown = imread(hour.folder / "build/first-hour/household.png"), imread(ROOT / "docs/first-hour.png")
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 0.005
