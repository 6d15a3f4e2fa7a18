"""The graft on moto: its ECS, with Fargate tasks that run.

moto (5.2.5) keeps the books (cluster, task definitions, tasks) and speaks the protocol; as with its EMR, three of its
classes are replaced by subclasses, and no function of it is patched. What is here is imported when someone first asks
for it (server.py): moto's ECS and logs take a second of a processor to import, which is for those who simulate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

from moto.core.common_types import TYPE_RESPONSE
from moto.core.exceptions import JsonRESTError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ecs import models, urls
from moto.ecs.exceptions import InvalidParameterException
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.logs.models import logs_backends
from moto.secretsmanager.models import secretsmanager_backends

from infra.local.aws import definition
from infra.local.aws.awslogs import Put
from infra.local.aws.requests import plain
from infra.local.aws.tasks import Container, Life, TaskRunner, secret_value
from infra.local.settings import BUCKET, KEYSPACE, REGION, SECRET_NAME, Stack

STOPPED_BY_USER = "Task stopped by user"
AWS_STOPPED = "The local AWS was stopped"
CONTAINER_OVERRIDE = frozenset({"name", "command", "environment"})
MOST_AT_ONCE = 10  # tasks of one request
# A key of the template that is no key here: moto's Secrets Manager and logs encrypt nothing.
NO_KEY = f"arn:aws:kms:{REGION}:{DEFAULT_ACCOUNT_ID}:key/00000000-0000-0000-0000-000000000000"


class LocalEcs:
    """The tasks that run."""

    def __init__(self, stack: Stack) -> None:
        """Take the stack whose AWS this is."""
        self.stack = stack
        # Beside moto's tasks, not in them: moto's own pages serialise what is in its models.
        self._runners: dict[str, TaskRunner] = {}
        self._lock = threading.Lock()
        self.closing = False

    def launch(self, task: LocalTask, container: Mapping[str, Any], override: Mapping[str, Any]) -> None:
        """Run a task that moto has made, of its container definition and the override of it."""
        put = _log_of(container, task.id)
        what = Container.of(container, override)
        runner = TaskRunner(self.stack, task.id, what, task.life, fetch=fetch_secret, put=put)
        with self._lock:
            self._runners[task.id] = runner
        runner.start()

    def stop(self, task: LocalTask, reason: str) -> None:
        """End a task; one that has ended stays as it is."""
        self._runners[task.id].stop(reason)

    def close(self, grace: float) -> None:
        """Begin to end every task: TERM, after `grace` seconds KILL."""
        self.closing = True
        for runner in self._all():
            runner.stop(AWS_STOPPED, grace)

    def join(self, timeout: float) -> None:
        """Wait for the end of every task, `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        for runner in self._all():
            runner.join(max(0.0, deadline - time.monotonic()))

    def _all(self) -> list[TaskRunner]:
        with self._lock:
            return list(self._runners.values())


class LocalContainer(models.Container):
    """The container of a task; what is told of it is the task's."""

    def __init__(self, task_definition: models.TaskDefinition, life: Life) -> None:
        """Make the container of a definition."""
        super().__init__(task_definition)
        del self.exitCode  # moto's is 0 from the start
        self.life = life

    @property
    def last_status(self) -> str:
        """PENDING until it runs."""
        status = self.life.last_status
        return status if status in {"RUNNING", "STOPPED"} else "PENDING"

    @last_status.setter
    def last_status(self, _: str) -> None:
        """Nothing: moto sets what it begins with."""

    @property
    def exit_code(self) -> int | None:
        """The command's exit status; None while it runs, or if it was never started."""
        return self.life.exit_code


class LocalTask(models.Task):
    """A task; its runner moves its state."""

    def __init__(
        self,
        cluster: models.Cluster,
        task_definition: models.TaskDefinition,
        *more: Any,  # noqa: ANN401 - moto's many
        **named: Any,  # noqa: ANN401 - as those
    ) -> None:
        """Make a task that is PROVISIONING."""
        self.life = Life()
        super().__init__(cluster, task_definition, *more, **named)
        container = LocalContainer(task_definition, self.life)  # type: ignore[abstract] # so is moto's own
        container.task_arn = self.task_arn
        self.containers = [container]
        self.cpu, self.memory = task_definition.cpu, task_definition.memory
        self.life.times["created_at"] = utcnow()

    def advance(self) -> None:
        """Do nothing: moto's tasks go on by being looked at."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - times are there when their moment has come
        """Find a time of the task, by its name."""
        if name == "life" or name not in self.life.times:
            raise AttributeError(name)
        return self.life.times[name]

    @property  # type: ignore[misc] # nobody sets it but the runner
    def last_status(self) -> str:
        """Where in its life it is."""
        return self.life.last_status

    @property
    def desired_status(self) -> str:
        """RUNNING until someone ends it, or it ends."""
        return self.life.desired_status

    @desired_status.setter
    def desired_status(self, _: str) -> None:
        """Nothing: moto sets what it begins with."""

    @property  # type: ignore[override] # no empty text while it runs
    def stopped_reason(self) -> str | None:
        """Why it ended."""
        return self.life.stopped_reason or None

    @stopped_reason.setter
    def stopped_reason(self, _: str) -> None:
        """Nothing: moto sets what it begins with."""

    @property
    def stop_code(self) -> str | None:
        """The same, as a code."""
        return self.life.stop_code or None


class LocalBackend(models.EC2ContainerServiceBackend):
    """moto's ECS of one account and region."""

    ecs: ClassVar[LocalEcs]

    @property
    def _url_module(self) -> ModuleType:
        return urls  # moto looks for one beside the class's own module

    def find_task(self, cluster: str, task: str) -> LocalTask | None:
        """Find a task by its ARN or its id; None if the cluster has none such."""
        tasks: Mapping[str, Any] = self.tasks.get(self._get_cluster(cluster).name, {})
        return next((each for each in tasks.values() if task in (each.id, each.task_arn)), None)


class LocalResponse(EC2ContainerServiceResponse):
    """The API's actions: a method is an action, moto dispatches by its name."""

    @property
    def _backend(self) -> LocalBackend:
        return models.ecs_backends[self.current_account][self.region]  # type: ignore[return-value] # `install` gives moto this class

    def call_action(self) -> TYPE_RESPONSE:
        """Do an action; what neither moto nor we do is refused as an answer, not as a 500."""
        try:
            return super().call_action()
        except NotImplementedError:
            return self.serialized(ActionResult(_refusal(self._get_action())))

    def run_task(self) -> ActionResult:
        """Make tasks, and run them."""
        ecs = self._backend.ecs
        if ecs.closing:
            raise InvalidParameterException("The local AWS is being stopped: it takes no more tasks.")
        request = plain(self.params)
        if request.get("launchType") != "FARGATE":
            raise _refusal("a launch type other than FARGATE")
        if not 1 <= int(request.get("count", 1)) <= MOST_AT_ONCE:
            raise InvalidParameterException(f"count should be between 1 and {MOST_AT_ONCE}.")
        definition_of = self._backend.describe_task_definition(request["taskDefinition"])
        if len(definition_of.container_definitions) != 1:
            raise _refusal("a task of several containers")
        container = definition_of.container_definitions[0]
        override = _override(request.get("overrides", {}), str(container["name"]))
        if not (override.get("command") or container.get("command")):
            raise InvalidParameterException("The container has no command, and its image is not looked at.")
        answer: ActionResult = super().run_task()
        for task in answer.result["tasks"]:  # type: ignore[index] # moto types it as object
            ecs.launch(task, container, override)
        return answer

    def describe_tasks(self) -> ActionResult:
        """Describe tasks; those that are not there are failures, as ECS has it."""
        cluster, asked = self._get_param("cluster", "default"), self._get_param("tasks", [])
        if not asked:
            raise InvalidParameterException("Tasks cannot be empty.")
        found = {each: self._backend.find_task(cluster, each) for each in asked}
        return ActionResult(
            {
                "tasks": [task for task in found.values() if task],
                "failures": [{"arn": each, "reason": "MISSING"} for each, task in found.items() if not task],
            }
        )

    def stop_task(self) -> ActionResult:
        """Ask a task to end."""
        task = self._backend.find_task(self._get_param("cluster", "default"), self._get_param("task"))
        if task is None:
            raise InvalidParameterException("The referenced task was not found.")
        self._backend.ecs.stop(task, self._get_param("reason") or STOPPED_BY_USER)
        return ActionResult({"task": task})


def install(ecs: LocalEcs) -> None:
    """Put the local ECS in moto's place, with what the simulation's stack has. Tasks of one before are forgotten."""
    LocalBackend.ecs = ecs
    models.Task = LocalTask  # type: ignore[misc] # the backend makes tasks by this name
    models.ecs_backends.clear()
    models.ecs_backends.backend = LocalBackend
    urls.url_paths = {"{0}/$": LocalResponse.dispatch}
    _deploy(ecs.stack)


def fetch_secret(where: str) -> str:
    """Return the value at a `valueFrom`, as the execution role reads it; NotStartedError if it can't be had."""
    return secret_value(where, _secret_text)


def _deploy(stack: Stack) -> None:
    """Make what CloudFormation makes of the template, as far as tasks need it."""
    secrets = secretsmanager_backends[DEFAULT_ACCOUNT_ID][REGION].secrets
    found = definition.load(
        {
            "Prefix": "feature-store",
            "BucketName": BUCKET,
            "KmsKeyArn": NO_KEY,
            "KeyspaceName": KEYSPACE,
            "ReaderPolicyArn": f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:policy/feature-store-reader",
            "KeyspacesHost": stack.hosts.keyspaces_host,
            "KeyspacesPort": str(stack.ports.keyspaces_port),
            # The stand-in knows passwords, and no roles of AWS.
            "KeyspacesSecretArn": secrets[SECRET_NAME].arn,
        },
        DEFAULT_ACCOUNT_ID,
        REGION,
    )
    backend = models.ecs_backends[DEFAULT_ACCOUNT_ID][REGION]
    backend.create_cluster(found.cluster, [], [], {}, ["FARGATE"], [])
    task = found.task
    backend.register_task_definition(
        task["family"],
        task["containerDefinitions"],
        volumes=task["volumes"],
        network_mode=task["networkMode"],
        requires_compatibilities=task["requiresCompatibilities"],
        cpu=task["cpu"],
        memory=task["memory"],
        task_role_arn=task["taskRoleArn"],
        execution_role_arn=task["executionRoleArn"],
        runtime_platform=task["runtimePlatform"],
    )
    logs_backends[DEFAULT_ACCOUNT_ID][REGION].ensure_log_group(found.log_group)


def _override(overrides: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a request overrides of the container; what is not done here is refused."""
    if unknown := sorted(key for key, value in overrides.items() if key != "containerOverrides" and value):
        raise _refusal(f"{', '.join(unknown)} (of overrides)")
    (override,) = overrides.get("containerOverrides") or [{"name": name}]
    if unknown := sorted(override.keys() - CONTAINER_OVERRIDE):
        raise _refusal(f"{', '.join(unknown)} (of a container's override)")
    if override.get("name") != name:
        raise InvalidParameterException(f"Override for container named {override.get('name')} is not a container.")
    return dict(override)


def _log_of(container: Mapping[str, Any], task_id: str) -> Put | None:
    """Return what takes lines for the log stream of a task, and makes it first, as the log driver awslogs does."""
    log = container.get("logConfiguration")
    if log is None:
        return None
    if log["logDriver"] != "awslogs":
        raise _refusal(f"the log driver {log['logDriver']}")
    options = log["options"]
    group, stream = options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{container['name']}/{task_id}"
    logs = logs_backends[DEFAULT_ACCOUNT_ID][options["awslogs-region"]]

    def put(lines: list[tuple[int, str]]) -> None:
        # The driver makes it when the container starts: of a task that did not start there is none.
        if stream not in logs.groups[group].streams:
            logs.create_log_stream(group, stream)
        logs.put_log_events(group, stream, [{"timestamp": at, "message": line} for at, line in lines])

    return put


def _secret_text(arn: str) -> str:
    secrets = secretsmanager_backends[DEFAULT_ACCOUNT_ID][REGION]
    try:
        return str(secrets.get_secret_value(arn, None, None)["SecretString"])  # type: ignore[arg-type] # None: the current one
    except (JsonRESTError, KeyError) as error:
        raise LookupError(arn) from error


def _refusal(what: str) -> InvalidParameterException:
    return InvalidParameterException(f"The local ECS does not do this: {what}.")
