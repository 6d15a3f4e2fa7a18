"""The local EMR as boto3 sees it: the life of clusters and steps, with tiny shell scripts as steps."""

import time

import pytest
from botocore.exceptions import ClientError

from tests.unit.infra.aws.cloud import Cloud, alive, shell, wait_until

pytestmark = pytest.mark.unit

FLEETS = [
    {
        "InstanceFleetType": "MASTER",
        "TargetOnDemandCapacity": 1,
        "InstanceTypeConfigs": [{"InstanceType": "m7g.xlarge"}, {"InstanceType": "m6g.xlarge"}],
    },
    {
        "InstanceFleetType": "CORE",
        "TargetSpotCapacity": 2,
        "InstanceTypeConfigs": [{"InstanceType": "m7g.2xlarge"}],
    },
]


def limits(least: int, most: int, unit: str = "Instances", **more: int) -> dict:
    bounds = {"UnitType": unit, "MinimumCapacityUnits": least, "MaximumCapacityUnits": most}
    return {"ComputeLimits": {**bounds, **more}}


def refused(call, **request) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return str(caught.value)


def test_a_cluster_runs_its_steps_in_order_and_ends_when_none_is_left(cloud: Cloud):
    cluster = cloud.run(shell("one", "echo first >> ~/seen"), shell("two", "cat ~/seen"), keep=False)
    ended = cloud.wait_for(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert (ended["State"], ended["StateChangeReason"]["Code"]) == ("TERMINATED", "ALL_STEPS_COMPLETED")
    assert set(cloud.steps(cluster).values()) == {"COMPLETED"}
    second = cloud.client("emr").list_steps(ClusterId=cluster)["Steps"][0]
    assert second["Status"]["Timeline"]["StartDateTime"] <= second["Status"]["Timeline"]["EndDateTime"]
    assert cloud.log(f"{cluster}/steps/{second['Id']}/stdout.gz") == "first\n"
    assert "ended with 0" in cloud.log(f"{cluster}/steps/{second['Id']}/controller.gz")


def test_a_cluster_of_fleets_runs_too_and_is_written_down_as_groups(cloud: Cloud):
    emr = cloud.client("emr")
    cluster = emr.run_job_flow(
        Name="fleets",
        ReleaseLabel="emr-7.14.0",
        Instances={"InstanceFleets": FLEETS, "Ec2SubnetIds": ["subnet-1"], "KeepJobFlowAliveWhenNoSteps": True},
        ManagedScalingPolicy=limits(2, 4, "InstanceFleetUnits", MaximumOnDemandCapacityUnits=2),
        Steps=[shell("one", "true")],
    )["JobFlowId"]
    wait_until(lambda: cloud.steps(cluster) == {"one": "COMPLETED"}, "the step's end")
    groups = emr.list_instance_groups(ClusterId=cluster)["InstanceGroups"]
    seen = {
        (each["InstanceGroupType"], each["InstanceType"], each["RequestedInstanceCount"], each["Market"])
        for each in groups
    }
    assert seen == {("MASTER", "m7g.xlarge", 1, "ON_DEMAND"), ("CORE", "m7g.2xlarge", 2, "SPOT")}


def test_the_folder_of_a_cluster_that_ended_is_gone(cloud: Cloud):
    cluster = cloud.run(shell("one", "echo $HOME"), keep=False)
    cloud.wait_for(cluster, "TERMINATED")
    assert not (cloud.stack.home / "emr" / cluster).exists()


def test_a_failing_step_says_why_and_the_next_one_runs(cloud: Cloud):
    cluster = cloud.run(shell("bad", "echo out; echo the disk is full >&2; exit 3"), shell("good", "true"))
    wait_until(lambda: cloud.steps(cluster) == {"bad": "FAILED", "good": "COMPLETED"}, "bad failed, good completed")
    bad = cloud.client("emr").list_steps(ClusterId=cluster, StepStates=["FAILED"])["Steps"][0]
    details = bad["Status"]["FailureDetails"]
    assert details["Message"] == "Exit code 3: the disk is full"
    assert details["LogFile"].endswith(f"elasticmapreduce/{cluster}/steps/{bad['Id']}/stderr.gz")
    assert cloud.log(f"{cluster}/steps/{bad['Id']}/stderr.gz") == "the disk is full\n"
    cloud.wait_for(cluster, "WAITING")


def test_a_program_that_is_not_there_fails_its_step(cloud: Cloud):
    missing = shell("x", "")
    missing["HadoopJarStep"]["Args"] = ["nix"]
    cluster = cloud.run(missing)
    wait_until(lambda: cloud.steps(cluster) == {"x": "FAILED"}, "x failed")
    failed = cloud.client("emr").list_steps(ClusterId=cluster)["Steps"][0]
    assert "nix: no such program" in failed["Status"]["FailureDetails"]["Message"]


@pytest.mark.parametrize("action", ["TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"])
def test_a_failing_step_may_end_the_cluster(cloud: Cloud, action: str):
    cluster = cloud.run(shell("bad", "exit 1", action), shell("after", "true"))
    ended = cloud.wait_for(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert (ended["State"], ended["StateChangeReason"]["Code"]) == ("TERMINATED_WITH_ERRORS", "STEP_FAILURE")
    assert cloud.steps(cluster) == {"bad": "FAILED", "after": "CANCELLED"}


def test_a_failing_step_may_cancel_the_pending_ones_only(cloud: Cloud):
    cluster = cloud.run(shell("bad", "exit 1", "CANCEL_AND_WAIT"), shell("after", "true"))
    wait_until(lambda: cloud.steps(cluster) == {"bad": "FAILED", "after": "CANCELLED"}, "after is cancelled")
    cloud.wait_for(cluster, "WAITING")


@pytest.mark.parametrize("option", ["SEND_INTERRUPT", "TERMINATE_PROCESS"])
def test_cancelling_a_running_step_ends_its_children_too(cloud: Cloud, option: str, tmp_path):
    pids = tmp_path / "child", tmp_path / "told"
    # A child in a process group of its own, as PySpark's daemon is; `told` shows which of the two signals came.
    script = (
        f"trap 'touch {pids[1]}; exit 1' TERM; set -m; sleep 60 & echo $! > {pids[0]}.part; "
        f"mv {pids[0]}.part {pids[0]}; wait"
    )
    cluster = cloud.run(shell("long", script))
    wait_until(pids[0].exists, "the step runs")
    step = cloud.client("emr").list_steps(ClusterId=cluster)["Steps"][0]["Id"]
    answer = cloud.client("emr").cancel_steps(ClusterId=cluster, StepIds=[step], StepCancellationOption=option)
    assert answer["CancelStepsInfoList"] == [{"StepId": step, "Status": "SUBMITTED"}]
    cloud.wait_for_step(cluster, step, "CANCELLED")
    assert not alive(int(pids[0].read_text()))
    assert pids[1].exists() == (option == "SEND_INTERRUPT")
    again = cloud.client("emr").cancel_steps(ClusterId=cluster, StepIds=[step])["CancelStepsInfoList"][0]
    assert again["Status"] == "FAILED"
    cloud.wait_for(cluster, "WAITING")


def test_a_step_that_ignores_term_is_killed(cloud: Cloud, monkeypatch, tmp_path):
    started = tmp_path / "started"
    cluster = cloud.run(shell("deaf", f"trap '' TERM; touch {started}; while true; do sleep 0.1; done"))
    wait_until(started.exists, "the step runs")
    began = time.monotonic()
    cloud.client("emr").terminate_job_flows(JobFlowIds=[cluster])
    cloud.wait_for(cluster, "TERMINATED")
    assert 4 < time.monotonic() - began < 9
    assert cloud.steps(cluster) == {"deaf": "INTERRUPTED"}


def test_terminate_ends_the_running_step_and_cancels_the_pending_one(cloud: Cloud, tmp_path):
    started = tmp_path / "started"
    cluster = cloud.run(shell("long", f"touch {started}; sleep 60"), shell("after", "true"))
    wait_until(started.exists, "the step runs")
    assert cloud.steps(cluster) == {"long": "RUNNING", "after": "PENDING"}
    assert cloud.status(cluster)["State"] == "RUNNING"
    cloud.client("emr").terminate_job_flows(JobFlowIds=[cluster])
    ended = cloud.wait_for(cluster, "TERMINATED")
    assert ended["StateChangeReason"] == {"Code": "USER_REQUEST", "Message": "Terminated by user request"}
    assert cloud.steps(cluster) == {"long": "INTERRUPTED", "after": "CANCELLED"}


def test_a_pending_step_can_be_cancelled(cloud: Cloud, tmp_path):
    started = tmp_path / "started"
    cluster = cloud.run(shell("long", f"touch {started}; sleep 60"))
    (pending,) = cloud.add(cluster, shell("after", "true"))
    wait_until(started.exists, "the step runs")
    cloud.client("emr").cancel_steps(ClusterId=cluster, StepIds=[pending])
    assert cloud.steps(cluster) == {"long": "RUNNING", "after": "CANCELLED"}


def test_steps_run_side_by_side_as_far_as_the_concurrency_level_goes(cloud: Cloud, tmp_path):
    wait = 'touch {0}/$EMR_STEP_ID; until [ "$(ls {0} | wc -l)" = 2 ]; do sleep 0.02; done'.format(tmp_path / "met")
    (tmp_path / "met").mkdir()
    cluster = cloud.run(shell("a", wait), shell("b", wait), StepConcurrencyLevel=2)
    wait_until(lambda: cloud.steps(cluster) == {"a": "COMPLETED", "b": "COMPLETED"}, "both met")
    assert "between 1 and 256" in refused(cloud.client("emr").modify_cluster, ClusterId=cluster, StepConcurrencyLevel=0)


def test_a_dead_cluster_takes_no_steps(cloud: Cloud):
    cluster = cloud.run(keep=False)
    cloud.wait_for(cluster, "TERMINATED")
    said = refused(cloud.client("emr").add_job_flow_steps, JobFlowId=cluster, Steps=[shell("late", "true")])
    assert "ValidationException" in said
    assert "shutting down, terminated, or finished" in said


def test_bootstrap_actions_run_before_the_steps_and_their_logs_are_put_away(cloud: Cloud):
    cluster = cloud.run(shell("see", "cat ~/made"), bootstrap='echo "$1 $2" > ~/made; echo loud >&2')
    wait_until(lambda: cloud.steps(cluster) == {"see": "COMPLETED"}, "the step")
    step = cloud.client("emr").list_steps(ClusterId=cluster)["Steps"][0]["Id"]
    assert cloud.log(f"{cluster}/steps/{step}/stdout.gz") == "--first an argument\n"
    instance = cloud.client("emr").list_instances(ClusterId=cluster)["Instances"][0]["Ec2InstanceId"]
    assert cloud.log(f"{cluster}/node/{instance}/bootstrap-actions/1/stderr.gz") == "loud\n"


def test_a_bad_bootstrap_action_ends_the_cluster(cloud: Cloud):
    cluster = cloud.run(shell("never", "true"), bootstrap="echo no >&2; exit 7")
    ended = cloud.wait_for(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    instance = cloud.client("emr").list_instances(ClusterId=cluster)["Instances"][0]["Ec2InstanceId"]
    assert ended["State"] == "TERMINATED_WITH_ERRORS"
    assert ended["StateChangeReason"] == {
        "Code": "BOOTSTRAP_FAILURE",
        "Message": f"On the master instance ({instance}), bootstrap action 1 returned a non-zero return code",
    }
    assert cloud.steps(cluster) == {"never": "CANCELLED"}


def test_a_bootstrap_script_that_is_not_there_ends_the_cluster(cloud: Cloud):
    action = {"Name": "none", "ScriptBootstrapAction": {"Path": "s3://feature-store-local/none.sh"}}
    cluster = cloud.run(BootstrapActions=[action])
    ended = cloud.wait_for(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert ended["StateChangeReason"]["Code"] == "BOOTSTRAP_FAILURE"
    assert "failed attempting to download bootstrap action 1" in ended["StateChangeReason"]["Message"]


def test_a_cluster_can_be_terminated_while_it_bootstraps(cloud: Cloud, tmp_path):
    started = tmp_path / "started"
    cluster = cloud.run(bootstrap=f"touch {started}; sleep 60")
    wait_until(started.exists, "the bootstrap action runs")
    assert cloud.status(cluster)["State"] == "BOOTSTRAPPING"
    cloud.client("emr").terminate_job_flows(JobFlowIds=[cluster])
    assert cloud.wait_for(cluster, "TERMINATED")["StateChangeReason"]["Code"] == "USER_REQUEST"


def test_what_a_bootstrap_action_left_running_ends_with_the_cluster(cloud: Cloud, tmp_path):
    pid = tmp_path / "pid"
    cluster = cloud.run(bootstrap=f"sleep 60 & echo $! > {pid}")
    cloud.wait_for(cluster, "WAITING")
    assert alive(int(pid.read_text()))
    cloud.client("emr").terminate_job_flows(JobFlowIds=[cluster])
    cloud.wait_for(cluster, "TERMINATED")
    assert not alive(int(pid.read_text()))


def test_an_idle_cluster_ends_by_its_policy(cloud: Cloud):
    cluster = cloud.run(shell("one", "true"), AutoTerminationPolicy={"IdleTimeout": 60})
    wait_until(lambda: cloud.steps(cluster) == {"one": "COMPLETED"}, "the step")
    cloud.wait_for(cluster, "WAITING")
    cloud.clock.now += 59
    policy = cloud.client("emr").get_auto_termination_policy(ClusterId=cluster)["AutoTerminationPolicy"]
    assert policy == {"IdleTimeout": 60}
    assert cloud.status(cluster)["State"] == "WAITING"
    cloud.clock.now += 2
    ended = cloud.wait_for(cluster, "TERMINATED")
    assert ended["StateChangeReason"]["Message"] == "Auto-terminated after 60 idle seconds"


def test_a_policy_can_be_put_and_removed(cloud: Cloud):
    emr = cloud.client("emr")
    cluster = cloud.run(AutoTerminationPolicy={"IdleTimeout": 60})
    cloud.wait_for(cluster, "WAITING")
    emr.remove_auto_termination_policy(ClusterId=cluster)
    assert "AutoTerminationPolicy" not in emr.get_auto_termination_policy(ClusterId=cluster)
    cloud.clock.now += 1000
    emr.put_auto_termination_policy(ClusterId=cluster, AutoTerminationPolicy={"IdleTimeout": 2000})
    assert cloud.status(cluster)["State"] == "WAITING"
    emr.put_auto_termination_policy(ClusterId=cluster, AutoTerminationPolicy={"IdleTimeout": 900})
    cloud.wait_for(cluster, "TERMINATED")
    short = {"IdleTimeout": 5}
    said = refused(emr.put_auto_termination_policy, ClusterId=cluster, AutoTerminationPolicy=short)
    assert "between 60 and 604800" in said


def test_a_cluster_lives_in_the_region_that_was_asked(cloud: Cloud):
    tokyo = cloud.client("emr", "ap-northeast-1")
    there, here = cloud.run(emr=tokyo), cloud.run()
    assert [c["Id"] for c in tokyo.list_clusters()["Clusters"]] == [there]
    assert [c["Id"] for c in cloud.client("emr").list_clusters()["Clusters"]] == [here]
    described = cloud.client("emr").describe_cluster(ClusterId=here)["Cluster"]
    assert described["ClusterArn"].split(":")[3] == "eu-west-2"


def test_clusters_are_listed_by_state_the_newest_first(cloud: Cloud):
    old, new, dead = cloud.run(), cloud.run(), cloud.run(keep=False)
    for cluster in (old, new):
        cloud.wait_for(cluster, "WAITING")
    cloud.wait_for(dead, "TERMINATED")
    listed = cloud.client("emr").list_clusters(ClusterStates=["WAITING"])["Clusters"]
    assert [cluster["Id"] for cluster in listed] == [new, old]


def test_a_termination_protected_cluster_stays(cloud: Cloud):
    cluster = cloud.run(Instances={"TerminationProtected": True})
    assert "termination protected" in refused(cloud.client("emr").terminate_job_flows, JobFlowIds=[cluster])
    cloud.wait_for(cluster, "WAITING")


@pytest.mark.parametrize(
    ("request_of", "part"),
    [
        (
            {"ManagedScalingPolicy": {}, "KerberosAttributes": {"Realm": "R", "KdcAdminPassword": "x"}},
            "KerberosAttributes",
        ),
        ({"Instances": {"InstanceFleets": FLEETS, "InstanceGroups": []}}, "mutually exclusive"),
        (
            {
                "Instances": {
                    "InstanceFleets": [
                        {
                            **FLEETS[0],
                            "ResizeSpecifications": {"SpotResizeSpecification": {"TimeoutDurationMinutes": 5}},
                        }
                    ]
                }
            },
            "ResizeSpecifications",
        ),
        ({"Instances": {"InstanceFleets": [{"InstanceFleetType": "MASTER"}]}}, "InstanceTypeConfigs"),
        ({"Instances": {"InstanceFleets": [{**FLEETS[0], "TargetOnDemandCapacity": 2}]}}, "one target capacity"),
        ({"Instances": {"InstanceFleets": [{**FLEETS[0], "TargetSpotCapacity": 1}]}}, "one target capacity"),
        ({"Instances": {"InstanceFleets": [{**FLEETS[0], "TargetOnDemandCapacity": 0}]}}, "of more than 0"),
        ({"Instances": {"InstanceGroups": [], "Ec2SubnetIds": ["subnet-1"]}}, "are for instance fleets"),
        ({"ManagedScalingPolicy": {}}, "MaximumCapacityUnits"),
        ({"ManagedScalingPolicy": limits(2, 1)}, "from 2 to 1 units"),
        ({"ManagedScalingPolicy": limits(1, 2, "InstanceFleetUnits")}, "UnitType InstanceFleetUnits"),
        ({"ManagedScalingPolicy": limits(1, 2, MaximumOnDemandCapacityUnits=3)}, "MaximumOnDemandCapacityUnits"),
        ({"Applications": [{"Name": "Presto"}]}, "presto"),
        ({"Configurations": [{"Classification": "yarn-site", "Properties": {}}]}, "yarn-site"),
        ({"AutoTerminationPolicy": {"IdleTimeout": 1}}, "between 60 and 604800"),
        ({"BootstrapActions": [{"Name": "b", "ScriptBootstrapAction": {"Path": "file:/x.sh"}}]}, "file:/x.sh"),
        ({"Steps": [{"Name": "s", "HadoopJarStep": {"Jar": "s3://bucket/my.jar"}}]}, "s3://bucket/my.jar"),
    ],
)
def test_what_it_does_not_do_is_refused_with_a_reason(cloud: Cloud, request_of, part):
    instances = {"InstanceGroups": [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}]}
    request = {"Name": "test", "Instances": instances, **request_of}
    said = refused(cloud.client("emr").run_job_flow, **request)
    assert "ValidationException" in said
    assert part in said
    assert cloud.client("emr").list_clusters()["Clusters"] == []


def test_an_action_that_it_does_not_do_is_refused_with_a_reason(cloud: Cloud):
    cluster = cloud.run()
    said = refused(cloud.client("emr").list_instance_fleets, ClusterId=cluster)
    assert "The local EMR does not do this: ListInstanceFleets" in said


def test_what_is_not_there_is_an_error_of_the_api(cloud: Cloud):
    emr, cluster = cloud.client("emr"), cloud.run()
    for call, request in (
        (emr.describe_cluster, {"ClusterId": "j-NONE"}),
        (emr.list_steps, {"ClusterId": "j-NONE"}),
        (emr.terminate_job_flows, {"JobFlowIds": ["j-NONE"]}),
        (emr.add_job_flow_steps, {"JobFlowId": "j-NONE", "Steps": [shell("x", "true")]}),
        (emr.describe_step, {"ClusterId": cluster, "StepId": "s-NONE"}),
        (emr.cancel_steps, {"ClusterId": cluster, "StepIds": ["s-NONE"]}),
    ):
        assert "InvalidRequestException" in refused(call, **request)
