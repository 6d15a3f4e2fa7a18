"""Faults on purpose, for tests and `make drill`: what the resource /faults asks for goes wrong as it does on AWS.

It is the local AWS's own, behind the same door as everything else: a request has to carry the stack's access key.

    PUT  /faults                       {"elasticmapreduce.DescribeStep": 3, "capacity": 1}: in place of what there was
    GET  /faults                       what of it has not come yet
    POST /faults/spot-loss/CLUSTER_ID  now
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from moto.emr.exceptions import InvalidCluster
from werkzeug.wrappers import Request, Response

from infra.local.aws.models import Ending

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PATH = "/faults"
SPOT_LOSS = f"{PATH}/spot-loss/"
# The key of a request's environment under which the door puts its action, as service.Action.
ACTION = "feature_store.action"
CAPACITY = "capacity"

# What EMR says when it has lost all core instances to the spot market; that it cancels the step that runs, and does not
# call it interrupted, was seen there too (mrjob's mock of EMR, "not INTERRUPTED", and reports of users).
SPOT_LOST = Ending("INSTANCE_FAILURE", "All slaves in the job flow were terminated due to Spot", steps="CANCELLED")
# "ThrottlingException: The request was denied due to request throttling. HTTP Status Code: 400" (EMR's API reference,
# Common Errors); the words are those that boto3 shows (apache/airflow#34458).
THROTTLED = {"__type": "ThrottlingException", "message": "Rate exceeded"}
CAPACITY_DOC = "https://docs.aws.amazon.com/emr/latest/ManagementGuide/INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ.html"


def out_of_capacity(instance_type: str, zone: str) -> Ending:
    """Return how a cluster of instance groups ends that gets no instances (INSTANCE_FLEET_TIMEOUT is of fleets).

    The code of the reason is the general one; programs are to read ErrorDetails, whose codes and keys are documented
    (EMR Management Guide, "Error codes with ErrorDetail information"). The words are those that users report.
    """
    message = (
        f"EC2 is out of capacity for {instance_type} in availability zone {zone}. "
        "Learn more at https://docs.aws.amazon.com/console/elasticmapreduce/ERROR_noinstancecapacity"
    )
    details = {
        "ErrorCode": "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ",
        "ErrorData": [{"instance-type": instance_type}, {"availability-zone": zone}, {"public-doc": CAPACITY_DOC}],
        "ErrorMessage": message,
    }
    return Ending("INTERNAL_ERROR", message, details=(details,))


class Faults:
    """How many times, by name, something is still to go wrong.

    A name is an action (`elasticmapreduce.DescribeStep`), whose calls are then throttled, or CAPACITY: a cluster that
    gets no instances.
    """

    def __init__(self) -> None:
        """Start with nothing that goes wrong."""
        self._lock = threading.Lock()
        self._left: Counter[str] = Counter()

    def put(self, counts: Any) -> None:  # noqa: ANN401 - a body that someone has sent
        """Take counts by name in place of what there was; ValueError if they are none."""
        if not isinstance(counts, dict) or not all(type(count) is int and count >= 0 for count in counts.values()):
            raise ValueError(f"faults are a count (0 or more) by name, not {counts!r}")
        with self._lock:
            self._left = Counter(counts)

    def left(self) -> dict[str, int]:
        """Return what has not come yet."""
        with self._lock:
            return dict(+self._left)

    def strikes(self, name: str) -> bool:
        """Whether this goes wrong this time; it counts as one time."""
        with self._lock:
            if self._left[name] <= 0:
                return False
            self._left[name] -= 1
            return True


class FaultyApp:
    """A WSGI application before another one: it throttles the calls that are to be, and serves /faults."""

    def __init__(self, app: WSGIApplication, faults: Faults, lose_instances: Callable[[str], None]) -> None:
        """Stand before `app`; `lose_instances` takes a cluster's id, InvalidCluster if there is no such cluster."""
        self._app = app
        self._faults = faults
        self._lose_instances = lose_instances

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, whose environment has its ACTION."""
        if environ["PATH_INFO"] == PATH or environ["PATH_INFO"].startswith(f"{PATH}/"):
            return self._resource(Request(environ))(environ, start_response)
        if self._faults.strikes(environ[ACTION]):
            return _json(THROTTLED, 400)(environ, start_response)
        return self._app(environ, start_response)

    def _resource(self, request: Request) -> Response:
        if (request.method, request.path) == ("GET", PATH):
            return _json(self._faults.left())
        try:
            if (request.method, request.path) == ("PUT", PATH):
                self._faults.put(json.loads(request.get_data()))
            elif request.method == "POST" and request.path.startswith(SPOT_LOSS):
                self._lose_instances(request.path.removeprefix(SPOT_LOSS))
            else:
                return _json({"message": f"{PATH} does not do this: {request.method} {request.path}"}, 404)
        except (ValueError, InvalidCluster) as error:
            return _json({"message": str(error)}, 400)
        return _json(self._faults.left())


def _json(body: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever JSON holds
    return Response(json.dumps(body), status, content_type="application/x-amz-json-1.1")
