"""Which failures may pass by themselves, so that a retry is worth it: by the reason codes of EMR and of AWS's APIs.

A code that says nothing about it is none that passes: a cluster more costs money, and a refusal is met again.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

# Why EMR has ended a cluster: StateChangeReason.Code (EMR API Reference, ClusterStateChangeReason), and the codes of
# ErrorDetails (EMR Management Guide, "Error codes with ErrorDetail information") where they say more than the former.
# Steps have no such table: "Currently, the service provides no code for the state change" (StepStateChangeReason). A
# step that FAILED was failed by its job, and fails again.
CLUSTER_ENDED = {
    # EMR's own faults. It also calls those so that are EC2's: no capacity in the zone, a spot price that has risen
    # (INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ, INTERNAL_ERROR_SPOT_NO_CAPACITY_PRIMARY and the like).
    "INTERNAL_ERROR": True,
    # Instances were lost: a fault of theirs, or a spot one that was taken back.
    "INSTANCE_FAILURE": True,
    # The fleet was not filled in its time.
    "INSTANCE_FLEET_TIMEOUT": True,
    # Mostly what the script downloads or asks (S3, Secrets Manager, Keyspaces) did not answer. One that is wrong fails
    # again, which costs some minutes more.
    "BOOTSTRAP_FAILURE": True,
    "BOOTSTRAP_FAILURE_FILE_NOT_FOUND_PRIMARY": False,
    "BOOTSTRAP_FAILURE_INSUFFICIENT_DISK_SPACE_PRIMARY": False,
    "BOOTSTRAP_FAILURE_INSUFFICIENT_DISK_SPACE_WORKER": False,
    # The request can't be fulfilled as it is: a subnet, a role, an instance type.
    "VALIDATION_ERROR": False,
    # A person, or the teardown of the run.
    "USER_REQUEST": False,
    "STEP_FAILURE": False,
    # Also the end of the idle time.
    "ALL_STEPS_COMPLETED": False,
}
# Why an API of AWS has said no: error codes ("Common Errors" of the EMR API Reference, and those of its actions; "Error
# Responses" of S3's) that mean something else than their HTTP status does.
REFUSED = {
    "Throttling": True,
    "ThrottlingException": True,
    "RequestLimitExceeded": True,
    "TooManyRequestsException": True,
    "RequestTimeout": True,
    # The next try signs in anew.
    "ExpiredToken": True,
    "ExpiredTokenException": True,
    # EMR calls some of its own faults bad requests.
    "InternalServerError": True,
    "InternalServerException": True,
}
UNREACHABLE = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.CredentialRetrievalError)


def codes(cluster: Mapping[str, Any]) -> list[str]:
    """Return the codes that EMR gives for a cluster's end, the one of the state first; none while it lives."""
    status = cluster["Status"]
    details = [detail.get("ErrorCode") for detail in status.get("ErrorDetails", [])]
    return [code for code in (status.get("StateChangeReason", {}).get("Code"), *details) if code]


def another_may_live(cluster: Mapping[str, Any]) -> bool:
    """Whether a cluster like the one that has ended may fare better."""
    known = [CLUSTER_ENDED[code] for code in codes(cluster) if code in CLUSTER_ENDED]
    return bool(known) and all(known)


def may_pass(error: BaseException) -> bool:
    """Whether an error may be none at the next try; True of all errors that are not AWS's (a lost worker, a bug)."""
    if isinstance(error, ClientError):
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", HTTPStatus.BAD_REQUEST)
        return REFUSED.get(answer["Error"]["Code"], status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    return not isinstance(error, BotoCoreError) or isinstance(error, UNREACHABLE)
