"""A simulation's name, what is refused before anything is started, the verdict, and the pages with the reports."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from airflow.sdk import DAG
from feature_store_airflow import simulation
from feature_store_airflow.bucket import Bucket
from feature_store_airflow.failures import PlanRejected, RunIncomplete
from feature_store_airflow.simulation import ChooseNameOperator, check, judge_simulation, name_of

from Simulation import plan

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette"),  # Airflow's own import of its API
]

DAG_ID, RUN_ID = "feature_store_simulation", "manual__2014-02-28T04:00:00+00:00"
PARAMS = {"rates": "50,100", "seconds": 60, "workers": 2, "shape": "steps", "name": None, "against": None}
REPORT = "<!doctype html><title>Simulation</title><p>é</p>"


class TestName:
    def choose(self, perform: Any, **params: Any) -> tuple[Any, str]:
        with DAG(DAG_ID):
            task = ChooseNameOperator(task_id="choose_name")
        result, context = perform(task, about={"params": {**PARAMS, **params}})
        return result, context["ti"].xcoms["choose_name", "name"]

    def test_is_made_of_the_runs(self, perform, s3) -> None:
        assert self.choose(perform) == ([0, 1], "manual__2014-02-28t04-00-00-00-00")
        body = s3.get_object(Bucket="lake", Key=f"runs/{DAG_ID}/{RUN_ID}/simulation.json")["Body"].read()
        assert json.loads(body) == {"name": "manual__2014-02-28t04-00-00-00-00"}

    def test_may_be_given(self, perform, s3) -> None:
        assert self.choose(perform, name="before", workers=3) == ([0, 1, 2], "before")

    def test_that_is_used_gets_the_next_free_number(self, perform, s3) -> None:
        for used in ("load", "load-2", "load-30"):
            s3.put_object(Bucket="lake", Key=f"simulation_results/{used}/workers/00/plan.json", Body=b"{}")
        assert self.choose(perform, name="load")[1] == "load-3"

    def test_that_another_begins_with_is_free(self, perform, s3) -> None:
        s3.put_object(Bucket="lake", Key="simulation_results/load-test/report.json", Body=b"{}")
        assert self.choose(perform, name="load")[1] == "load"

    def test_stays_within_its_length(self, perform, s3) -> None:
        s3.put_object(Bucket="lake", Key=f"simulation_results/{'a' * 100}/report.json", Body=b"{}")
        name = self.choose(perform, name="a" * 100)[1]
        assert name == "a" * 95 + "-2"

    def test_of_an_earlier_one_has_to_be_there(self, perform, s3) -> None:
        with pytest.raises(PlanRejected, match="There is no simulation before to compare with"):
            self.choose(perform, against="before")
        s3.put_object(Bucket="lake", Key="simulation_results/before/report.json", Body=b"{}")
        assert self.choose(perform, against="before")[0] == [0, 1]

    @pytest.mark.parametrize(
        ("run_id", "name"),
        [
            ("scheduled__2014-02-28", "scheduled__2014-02-28"),
            ("__Ab~c d", "ab-c-d"),
            ("~~", "run"),
            ("x" * 300, "x" * 95),
        ],
    )
    def test_of_any_run_is_one_that_the_workers_take(self, run_id, name) -> None:
        import re

        assert name_of(run_id) == name
        assert re.fullmatch(simulation.NAMES, name)

    def test_may_be_of_as_many_workers_as_json_has_it(self, perform, s3) -> None:
        assert self.choose(perform, workers=2.0)[0] == [0, 1]


def test_what_may_be_asked_for_is_named_as_the_workers_have_it() -> None:
    assert plan.NAME.pattern == simulation.NAMES
    assert plan.SHAPES == simulation.SHAPES
    assert plan.WORKERS >= simulation.WORKERS


class TestCheck:
    @pytest.mark.parametrize(
        ("params", "said"),
        [
            ({"rates": "0,1"}, "not all more than 0"),
            ({"rates": "5", "shape": "ramp"}, "A ramp needs two rates or more"),
            ({"rates": "1,2,3", "seconds": 3600}, "That may take 6:00:00, and 4:00:00 is the most"),
            ({"workers": 5}, "Airflow runs 4 tasks at a time here"),
        ],
    )
    def test_refuses_what_can_not_be_done(self, params, said) -> None:
        with pytest.raises(PlanRejected, match=said) as refused:
            check({**PARAMS, **params}, 4)
        assert "Next: " in str(refused.value)

    def test_takes_the_rest(self) -> None:
        check({**PARAMS, "workers": 4}, 4)
        check({**PARAMS, "workers": 32}, None)


class TestVerdict:
    def judge(self, monkeypatch, context_of, states: dict[str, str], **failures: str) -> str:
        with DAG(DAG_ID):
            task = ChooseNameOperator(task_id="verdict")
        ti = context_of(task)["ti"]
        ti.states = states
        for number, reason in failures.items():
            ti.xcoms["run_worker", "failure", int(number.removeprefix("of_"))] = reason
        monkeypatch.setattr(simulation, "get_current_context", lambda: {"ti": ti})
        return judge_simulation()

    DONE: ClassVar = dict.fromkeys(("choose_name", "run_worker_0", "run_worker_1", "report"), "success")

    def test_of_a_good_run_names_it(self, monkeypatch, context_of) -> None:
        said = self.judge(monkeypatch, context_of, {**self.DONE, "verdict": "running"})
        assert said.startswith("The simulation load is done.")

    def test_fails_for_a_worker_though_there_is_a_report(self, monkeypatch, context_of) -> None:
        with pytest.raises(RunIncomplete, match="worker 1 failed: The task 1 of ECS ended with exit code 137"):
            self.judge(
                monkeypatch, context_of, {**self.DONE, "run_worker_1": "failed"},
                of_1="The task 1 of ECS ended with exit code 137",
            )  # fmt: skip

    @pytest.mark.parametrize(
        ("states", "said"),
        [
            ({"report": "failed"}, "report failed: its worker was lost, or it was ended."),
            ({"report": "skipped"}, r"report did not run \(skipped\)"),
            ({"choose_name": "failed", "run_worker": "upstream_failed"}, r"run_worker did not run \(upstream_failed\)"),
        ],
    )
    def test_fails_for_whatever_was_not_done(self, monkeypatch, context_of, states, said) -> None:
        with pytest.raises(RunIncomplete, match=said):
            self.judge(monkeypatch, context_of, {**self.DONE, **states})


class TestPages:
    RUN = f"/feature-store/simulations/{DAG_ID}/manual__2014-02-28T04%3A00%3A00%2B00%3A00"

    def put(self, s3: Any, name: str = "load", record: bool = True) -> None:
        s3.put_object(Bucket="lake", Key=f"simulation_results/{name}/report.html", Body=REPORT.encode())
        if record:
            body = json.dumps({"name": name}).encode()
            s3.put_object(Bucket="lake", Key=f"runs/{DAG_ID}/{RUN_ID}/simulation.json", Body=body)

    @pytest.mark.parametrize("path", [RUN, "/feature-store/simulations", "/feature-store/simulations/load"])
    def test_are_for_those_who_may_read_the_dags_runs(self, client, s3, path) -> None:
        self.put(s3)
        assert client(None).get(path).status_code == 401
        assert client("none").get(path).status_code == 403
        assert client().get(path).status_code == 200

    @pytest.mark.parametrize("path", [RUN, "/feature-store/simulations/load"])
    def test_show_the_report_as_a_page_that_can_do_nothing(self, client, s3, path) -> None:
        self.put(s3)
        got = client().get(path)
        assert got.text == REPORT
        assert got.headers["content-type"] == "text/html; charset=utf-8"
        assert got.headers["content-security-policy"].startswith("default-src 'none'")
        assert got.headers["x-content-type-options"] == "nosniff"

    def test_list_what_there_is_with_a_report(self, client, s3) -> None:
        self.put(s3, "first", record=False)
        self.put(s3, "second", record=False)
        s3.put_object(Bucket="lake", Key="simulation_results/third/workers/00/plan.json", Body=b"{}")
        s3.put_object(Bucket="lake", Key="simulation_results/fourth/workers/report.html", Body=b"{}")
        s3.put_object(Bucket="lake", Key="simulation_results/Fifth?x/report.html", Body=b"{}")
        got = client().get("/feature-store/simulations").text
        assert 'href="./simulations/first"' in got
        assert 'href="./simulations/second"' in got
        assert "third" not in got
        assert "fourth" not in got
        assert "Fifth" not in got

    def test_list_without_looking_at_the_samples(self, client, s3, monkeypatch) -> None:
        self.put(s3, "long", record=False)
        for number in range(3):
            s3.put_object(Bucket="lake", Key=f"simulation_results/long/workers/00/samples-{number:06}.json", Body=b"{}")
        seen = []
        written = Bucket.written

        def noted(self: Any, prefix: str) -> Any:
            found = written(self, prefix)
            seen.extend(found)
            return found

        monkeypatch.setattr(Bucket, "written", noted)
        assert 'href="./simulations/long"' in client().get("/feature-store/simulations").text
        assert seen == ["simulation_results/long/report.html"]

    def test_say_where_there_is_none(self, client, s3) -> None:
        assert "There is no report of a simulation yet" in client().get("/feature-store/simulations").text
        got = client().get(self.RUN)
        assert (got.status_code, "has begun no simulation" in got.text) == (404, True)
        s3.put_object(Bucket="lake", Key=f"runs/{DAG_ID}/{RUN_ID}/simulation.json", Body=b'{"name": "load"}')
        got = client().get(self.RUN)
        assert (got.status_code, "The simulation load has no report." in got.text) == (404, True)

    @pytest.mark.parametrize("name", ["Load", "-a", "a" * 101])
    def test_take_names_only(self, client, s3, name) -> None:
        assert client().get(f"/feature-store/simulations/{name}").status_code == 404
