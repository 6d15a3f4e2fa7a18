"""The local ECS: a task's command really runs, and every way in which it can end is told as ECS tells it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from infra.local.aws import tasks
from infra.local.settings import BUCKET, HOST, REGION, ROOT, SECRET_NAME, VENV
from tests.unit.infra.aws.cloud import Cloud, alive, wait_until

pytestmark = pytest.mark.unit

NAME = "feature-store-simulation"
LOG_GROUP = "/feature-store/simulation"


class Tasks:
    """Starts tasks, and looks at them."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.ecs = cloud.client("ecs")
        subnets = cloud.client("ec2").describe_subnets()["Subnets"]
        groups = cloud.client("ec2").describe_security_groups()["SecurityGroups"]
        configuration = {"subnets": [subnets[0]["SubnetId"]], "securityGroups": [groups[0]["GroupId"]]}
        self.network = {"awsvpcConfiguration": {**configuration, "assignPublicIp": "DISABLED"}}

    def run(self, *command: str, **more: Any) -> str:
        """Start a task with a command; its ARN."""
        override = {"name": "simulation", "command": list(command), **more}
        answer = self.ecs.run_task(
            cluster=NAME,
            taskDefinition=NAME,
            launchType="FARGATE",
            networkConfiguration=self.network,
            overrides={"containerOverrides": [override]},
        )
        assert answer["failures"] == []
        return str(answer["tasks"][0]["taskArn"])

    def shell(self, script: str, **more: Any) -> str:
        return self.run("sh", "-c", script, **more)

    def look(self, arn: str) -> dict[str, Any]:
        return dict(self.ecs.describe_tasks(cluster=NAME, tasks=[arn])["tasks"][0])

    def wait(self, arn: str, *statuses: str) -> dict[str, Any]:
        return dict(wait_until(lambda: (seen := self.look(arn))["lastStatus"] in statuses and seen, f"{statuses}"))

    def log(self, arn: str) -> list[str]:
        stream = f"run/simulation/{arn.rpartition('/')[2]}"
        logs = self.cloud.client("logs")
        try:
            events = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream)["events"]
        except logs.exceptions.ResourceNotFoundException:  # its container has not started
            return []
        return [event["message"] for event in events]

    def streams(self) -> list[str]:
        found = self.cloud.client("logs").describe_log_streams(logGroupName=LOG_GROUP)["logStreams"]
        return [each["logStreamName"] for each in found]

    def saying(self, arn: str, what: str) -> str:
        """Wait for a line of the log that begins so; the rest of it."""
        found = wait_until(lambda: [line for line in self.log(arn) if line.startswith(what)], what)
        return str(found[0].removeprefix(what))


@pytest.fixture
def ecs(cloud: Cloud) -> Tasks:
    return Tasks(cloud)


def test_it_is_made_of_the_stacks_template(ecs: Tasks, cloud: Cloud) -> None:
    definition = ecs.ecs.describe_task_definition(taskDefinition=NAME)["taskDefinition"]
    (container,) = definition["containerDefinitions"]
    environment = {each["name"]: each["value"] for each in container["environment"]}
    assert environment["KEYSPACES_HOST"] == HOST
    assert environment["KEYSPACES_PORT"] == str(cloud.stack.ports.keyspaces_port)
    assert (environment["FEATURE_STORE_BUCKET"], environment["AWS_DEFAULT_REGION"]) == (BUCKET, REGION)
    assert container["readonlyRootFilesystem"]
    assert (container["user"], container["stopTimeout"], container["memory"]) == ("10001", 30, 2048)
    assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
    assert container["logConfiguration"]["options"]["awslogs-group"] == LOG_GROUP
    arn = cloud.client("secretsmanager").describe_secret(SecretId=SECRET_NAME)["ARN"]
    assert {each["name"]: each["valueFrom"] for each in container["secrets"]} == {
        "KEYSPACES_USERNAME": f"{arn}:username::",
        "KEYSPACES_PASSWORD": f"{arn}:password::",
    }
    assert definition["networkMode"] == "awsvpc"
    assert definition["taskRoleArn"].endswith(":role/feature-store-simulation")
    assert definition["executionRoleArn"].endswith(":role/feature-store-simulation-start")


def test_a_command_runs_and_its_end_is_told(ecs: Tasks) -> None:
    arn = ecs.shell("echo first; echo second >&2; printf last")
    done = ecs.wait(arn, "STOPPED")
    assert (done["stopCode"], done["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert done["desiredStatus"] == "STOPPED"
    (container,) = done["containers"]
    assert (container["lastStatus"], container["exitCode"], container["name"]) == ("STOPPED", 0, "simulation")
    assert sorted(ecs.log(arn)) == ["first", "last", "second"]
    times = [done[name] for name in ("createdAt", "pullStartedAt", "pullStoppedAt", "startedAt", "stoppedAt")]
    assert times == sorted(times)
    assert abs(times[0].timestamp() - time.time()) < 60


def test_a_running_task_says_no_end(ecs: Tasks) -> None:
    arn = ecs.shell("echo up; exec sleep 60")
    ecs.saying(arn, "up")
    seen = ecs.look(arn)
    assert (seen["lastStatus"], seen["desiredStatus"]) == ("RUNNING", "RUNNING")
    assert not {"stoppedReason", "stopCode", "stoppedAt"} & set(seen)
    assert "exitCode" not in seen["containers"][0]


def test_what_a_program_sums_up_is_the_last_line(ecs: Tasks) -> None:
    arn = ecs.shell("echo '{}'; echo working >&2")  # at the same time
    ecs.wait(arn, "STOPPED")
    assert ecs.log(arn) == ["working", "{}"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_task_whose_log_nobody_takes_ends_all_the_same(ecs: Tasks, cloud: Cloud) -> None:
    arn = ecs.shell("trap 'echo late; exit 0' TERM; sleep 60 & echo child $!; wait")
    child = int(ecs.saying(arn, "child "))
    cloud.client("logs").delete_log_group(logGroupName=LOG_GROUP)
    ecs.ecs.stop_task(cluster=NAME, task=arn)
    ecs.wait(arn, "STOPPED")
    assert not alive(child)
    assert not tasks.folder_of(cloud.stack, arn.rpartition("/")[2]).exists()


def test_the_log_is_there_while_it_runs(ecs: Tasks) -> None:
    arn = ecs.shell("echo early; exec sleep 60")
    assert ecs.saying(arn, "early") == ""
    assert ecs.look(arn)["lastStatus"] == "RUNNING"


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -KILL $$", 137)])
def test_a_failure_is_told_by_its_exit_code(ecs: Tasks, script: str, code: int) -> None:
    done = ecs.wait(ecs.shell(script), "STOPPED")
    assert done["containers"][0]["exitCode"] == code
    assert done["stopCode"] == "EssentialContainerExited"


def test_it_is_given_what_the_definition_and_the_role_give(ecs: Tasks, cloud: Cloud, monkeypatch: Any) -> None:
    monkeypatch.setenv("ANYTHING", "of the server's")
    arn = ecs.shell(
        "env | cut -d= -f1 | sed 's/^/has /'; pwd; command -v python; echo $KEYSPACES_PORT",
        environment=[{"name": "MORE", "value": "of the request"}],
    )
    ecs.wait(arn, "STOPPED")
    lines = ecs.log(arn)
    names = {line.removeprefix("has ") for line in lines if line.startswith("has ")}
    assert {"MORE", "KEYSPACES_PASSWORD", "AWS_ENDPOINT_URL_S3", "AWS_SECRET_ACCESS_KEY", "KEYSPACES_CA"} <= names
    assert "ANYTHING" not in names
    assert {str(ROOT), str(VENV / "bin" / "python"), str(cloud.stack.ports.keyspaces_port)} <= set(lines)


def test_a_module_of_the_repository_runs_in_the_projects_environment(ecs: Tasks) -> None:
    arn = ecs.run("python", "-m", "feature_store", "--help")
    done = ecs.wait(arn, "STOPPED")
    assert done["containers"][0]["exitCode"] == 0, ecs.log(arn)
    assert any("usage" in line for line in ecs.log(arn))
    assert sys.version_info[:2] == (3, 11)


def test_no_credential_is_in_what_ecs_tells(ecs: Tasks, cloud: Cloud) -> None:
    arn = ecs.shell('test -n "$KEYSPACES_PASSWORD" && test -n "$KEYSPACES_USERNAME"')
    done = ecs.wait(arn, "STOPPED")
    assert done["containers"][0]["exitCode"] == 0  # it has them all the same
    told = json.dumps([done, ecs.ecs.describe_task_definition(taskDefinition=NAME), ecs.log(arn)], default=str)
    secrets = cloud.stack.secrets
    for secret in (secrets.keyspaces_password, secrets.aws_secret_access_key, secrets.aws_access_key_id):
        assert secret not in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda secrets: secrets.delete_secret(SecretId=SECRET_NAME, ForceDeleteWithoutRecovery=True),
            "Secrets Manager can't find the specified secret",
        ),
        (
            lambda secrets: secrets.put_secret_value(SecretId=SECRET_NAME, SecretString='{"username": "hidden-1"}'),
            "did not contain json key password",
        ),
        (
            lambda secrets: secrets.put_secret_value(SecretId=SECRET_NAME, SecretString="hidden-1"),
            "did not contain json key username",
        ),
    ],
    ids=["no secret", "no password in it", "no JSON"],
)
def test_without_its_secret_a_task_does_not_start(ecs: Tasks, cloud: Cloud, change: Any, said: str) -> None:
    ecs.ecs.list_clusters()
    change(cloud.client("secretsmanager"))
    arn = ecs.shell("echo ran")
    done = ecs.wait(arn, "STOPPED")
    assert done["stopCode"] == "TaskFailedToStart"
    assert done["stoppedReason"].startswith("ResourceInitializationError: unable to pull secrets or registry auth")
    assert said in done["stoppedReason"]
    assert "hidden-1" not in done["stoppedReason"]
    assert "exitCode" not in done["containers"][0]
    assert "startedAt" not in done
    assert ecs.streams() == []


def test_a_task_that_says_nothing_has_an_empty_log(ecs: Tasks) -> None:
    arn = ecs.shell("true")
    ecs.wait(arn, "STOPPED")
    assert ecs.streams() == [f"run/simulation/{arn.rpartition('/')[2]}"]


def test_a_secret_is_read_when_a_task_starts(ecs: Tasks, cloud: Cloud) -> None:
    value = json.dumps({"username": "u", "password": "changed"})
    cloud.client("secretsmanager").put_secret_value(SecretId=SECRET_NAME, SecretString=value)
    done = ecs.wait(ecs.shell('test "$KEYSPACES_PASSWORD" = changed'), "STOPPED")
    assert done["containers"][0]["exitCode"] == 0


def test_a_command_that_is_not_there_does_not_start(ecs: Tasks) -> None:
    done = ecs.wait(ecs.run("no-such-program"), "STOPPED")
    assert (done["stopCode"], done["stoppedReason"]) == (
        "TaskFailedToStart",
        "CannotStartContainerError: no-such-program: executable file not found in $PATH",
    )


def test_a_word_that_no_program_takes_does_not_start(ecs: Tasks) -> None:
    done = ecs.wait(ecs.run("echo", "a\0b"), "STOPPED")
    assert (done["stopCode"], done["stoppedReason"]) == (
        "TaskFailedToStart",
        "CannotStartContainerError: embedded null byte",
    )


def test_stop_asks_a_task_to_end_and_it_may_say_how(ecs: Tasks) -> None:
    arn = ecs.shell("trap 'echo flushed; exit 1' TERM; echo up; while :; do sleep 0.05; done")
    ecs.saying(arn, "up")
    asked = ecs.ecs.stop_task(cluster=NAME, task=arn, reason="enough")["task"]
    assert asked["desiredStatus"] == "STOPPED"
    done = ecs.wait(arn, "STOPPED")
    assert (done["stopCode"], done["stoppedReason"]) == ("UserInitiated", "enough")
    assert done["containers"][0]["exitCode"] == 1
    assert "flushed" in ecs.log(arn)
    again = ecs.ecs.stop_task(cluster=NAME, task=arn, reason="again")["task"]
    assert again["stoppedReason"] == "enough"


def test_what_does_not_end_is_killed_after_its_stop_timeout(ecs: Tasks, monkeypatch: Any) -> None:
    made = tasks.Container.of
    monkeypatch.setattr(
        tasks.Container, "of", lambda definition, override: made({**definition, "stopTimeout": 0.3}, override)
    )
    arn = ecs.shell("trap '' TERM; sh -c 'echo child $$; while :; do sleep 0.05; done' & echo up; wait; wait")
    child = int(ecs.saying(arn, "child "))
    began = time.monotonic()
    ecs.ecs.stop_task(cluster=NAME, task=arn)
    done = ecs.wait(arn, "STOPPED")
    assert time.monotonic() - began < 5
    assert done["containers"][0]["exitCode"] == 137
    assert done["stoppedReason"] == "Task stopped by user"
    assert not alive(child)


def test_nothing_outlives_its_container(ecs: Tasks, cloud: Cloud) -> None:
    arn = ecs.shell("sleep 60 & echo child $!")
    child = int(ecs.saying(arn, "child "))
    ecs.wait(arn, "STOPPED")
    assert not alive(child)
    assert not tasks.folder_of(cloud.stack, arn.rpartition("/")[2]).exists()


def test_the_end_of_the_aws_is_the_end_of_its_tasks(ecs: Tasks, cloud: Cloud) -> None:
    arn = ecs.shell("trap '' TERM; echo pid $$; while :; do sleep 0.05; done")
    pid = int(ecs.saying(arn, "pid "))
    began = time.monotonic()
    cloud.aws.stop()
    assert time.monotonic() - began < 7
    assert not alive(pid)
    cloud.aws.stop = lambda: None  # type: ignore[method-assign] # the fixture's, a second time


def test_what_a_killed_aws_left_is_ended_and_removed(ecs: Tasks, cloud: Cloud, monkeypatch: Any) -> None:
    monkeypatch.setattr(tasks.TaskRunner, "_remove", lambda _: None)  # one that was killed removes nothing
    arn = ecs.shell("echo pid $$; exec sleep 60")
    pid = int(ecs.saying(arn, "pid "))
    task_id = arn.rpartition("/")[2]
    assert tasks.remove_leftovers(cloud.stack) == [task_id]
    wait_until(lambda: not alive(pid), "the end of the process")
    assert tasks.remove_leftovers(cloud.stack) == []


def test_its_processes_carry_the_stacks_mark(ecs: Tasks, cloud: Cloud) -> None:
    arn = ecs.shell("echo pid $$; exec sleep 60")
    process = psutil.Process(int(ecs.saying(arn, "pid ")))
    assert Path(process.environ()["FEATURE_STORE_STACK"]) == cloud.stack.home


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"launchType": "EC2"}, "a launch type other than FARGATE"),
        ({"overrides": {"taskRoleArn": "arn:aws:iam::1:role/r"}}, "taskRoleArn"),
        ({"overrides": {"containerOverrides": [{"name": "simulation", "memory": 1}]}}, "memory"),
        ({"overrides": {"containerOverrides": [{"name": "another"}]}}, "another"),
        ({"count": 11}, "count should be between 1 and 10"),
    ],
)
def test_what_is_not_done_here_is_refused(ecs: Tasks, request_: dict[str, Any], said: str) -> None:
    asked = {"cluster": NAME, "taskDefinition": NAME, "launchType": "FARGATE", "networkConfiguration": ecs.network}
    with pytest.raises(ClientError, match=said):
        ecs.ecs.run_task(**{**asked, **request_})
    assert ecs.ecs.list_tasks(cluster=NAME)["taskArns"] == []


def test_a_task_that_is_not_there(ecs: Tasks) -> None:
    answer = ecs.ecs.describe_tasks(cluster=NAME, tasks=["missing"])
    assert (answer["tasks"], answer["failures"]) == ([], [{"arn": "missing", "reason": "MISSING"}])
    with pytest.raises(ClientError, match="The referenced task was not found"):
        ecs.ecs.stop_task(cluster=NAME, task="missing")
