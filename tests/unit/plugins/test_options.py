"""What a person may ask of a run, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from feature_store_airflow.failures import PlanRejected
from feature_store_airflow.options import REPROCESSES, backfill_params, resolve_options, run_params, sized, sizes
from feature_store_airflow.settings import load_cluster_spec
from feature_store_airflow.step import of_views

from feature_store import registry
from feature_store.backfill import Reprocess

pytestmark = pytest.mark.unit

VIEWS = [view.name for view in registry.views()]


def test_every_param_says_what_it_is() -> None:
    for param in (*run_params().values(), *backfill_params().values()):
        assert param.schema["title"]
        assert param.description


def test_the_ways_to_reprocess_are_the_domains() -> None:
    assert list(REPROCESSES) == [each.value for each in Reprocess]


@pytest.mark.parametrize(
    ("params", "asked"),
    [
        ({}, {}),
        ({"views": []}, {"views": VIEWS}),
        ({"views": [VIEWS[1]]}, {"views": VIEWS[1:]}),
        ({"dry_run": True, "reprocess": "all", "other": 1}, {"dry_run": True, "reprocess": "all"}),
    ],
)
def test_what_is_asked_for(params: dict[str, Any], asked: dict[str, Any]) -> None:
    assert resolve_options(params) == asked


def test_a_view_that_is_not_there_is_refused_before_there_is_a_cluster() -> None:
    with pytest.raises(PlanRejected, match=r"no feature view 'weekly': there are .* Next: trigger the run again"):
        resolve_options({"views": ["weekly"]})


def test_a_size_is_that_of_the_nodes() -> None:
    spec = load_cluster_spec()
    large = sized(spec, "large")
    groups = {group["InstanceRole"]: group for group in large["Instances"]["InstanceGroups"]}
    assert groups["MASTER"]["InstanceType"] == sizes()["large"]["master"]
    assert (groups["CORE"]["InstanceType"], groups["CORE"]["InstanceCount"]) == (
        sizes()["large"]["core"],
        sizes()["large"]["core_count"],
    )
    assert groups["CORE"]["Market"] == "ON_DEMAND"
    assert load_cluster_spec() == spec, "the request itself stays as it is"


def test_the_smallest_is_the_cluster_as_it_is_declared() -> None:
    assert sized(load_cluster_spec(), next(iter(sizes()))) == load_cluster_spec() == sized(load_cluster_spec(), None)
    assert json.loads((Path(__file__).parents[3] / "EMR" / "cluster_sizes.json").read_text()) == sizes()


def test_views_that_nobody_asked_for_are_left_out_with_their_versions() -> None:
    arguments = ["--features", "f", "--view", "a", "--features-version", "1", "--view", "b", "--features-version", "2"]
    more = ["--start", "2014-01-01"]
    assert of_views([*arguments, *more], ["b"]) == ["--features", "f", "--view", "b", "--features-version", "2", *more]
    assert of_views([*arguments, *more], ["a", "b"]) == [*arguments, *more]
