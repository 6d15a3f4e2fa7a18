"""Which failures a retry may cure: the tables know every code that AWS documents, and each is used."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from feature_store_airflow.causes import CLUSTER_ENDED, another_may_live, may_pass

pytestmark = pytest.mark.unit

EMR = "https://emr"


def cluster(code: str | None, *details: str) -> dict[str, Any]:
    reason = {"Code": code, "Message": "why"} if code else {}
    errors = [{"ErrorCode": detail, "ErrorMessage": "why"} for detail in details]
    return {"Status": {"State": "TERMINATED_WITH_ERRORS", "StateChangeReason": reason, "ErrorDetails": errors}}


def refusal(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "RunJobFlow")


def test_every_code_of_emr_is_known(clients) -> None:
    """A code that boto3 learns of is to be decided on."""
    shape = clients("emr").meta.service_model.shape_for("ClusterStateChangeReasonCode")
    assert set(shape.enum) <= set(CLUSTER_ENDED)


@pytest.mark.parametrize(
    ("ended", "may"),
    [
        (cluster("BOOTSTRAP_FAILURE"), True),
        (cluster("BOOTSTRAP_FAILURE", "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE"), True),
        (cluster("BOOTSTRAP_FAILURE", "BOOTSTRAP_FAILURE_FILE_NOT_FOUND_PRIMARY"), False),
        (cluster("INTERNAL_ERROR", "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ"), True),
        (cluster("INSTANCE_FAILURE"), True),
        (cluster("VALIDATION_ERROR", "VALIDATION_ERROR_INSTANCE_TYPE_NOT_SUPPORTED"), False),
        (cluster("USER_REQUEST"), False),
        (cluster("SOMETHING_NEW"), False),
        (cluster(None), False),
        ({"Status": {"State": "TERMINATED"}}, False),
    ],
)
def test_whether_another_cluster_may_live(ended, may) -> None:
    assert another_may_live(ended) is may


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (refusal("ThrottlingException"), True),
        (refusal("InternalServerException"), True),
        (refusal("InternalFailure", 500), True),
        (refusal("ServiceUnavailable", 503), True),
        (refusal("SlowDown", 503), True),
        (refusal("ExpiredTokenException", 403), True),
        (refusal("ValidationException"), False),
        (refusal("InvalidRequestException"), False),
        (refusal("AccessDeniedException"), False),
        (refusal("NoSuchBucket", 404), False),
        (EndpointConnectionError(endpoint_url=EMR), True),
        (ConnectTimeoutError(endpoint_url=EMR), True),
        (ReadTimeoutError(endpoint_url=EMR), True),
        (NoCredentialsError(), False),
        (ParamValidationError(report="no"), False),
        (RuntimeError("a bug"), True),
    ],
    ids=lambda value: str(value)[:60],
)
def test_whether_an_error_may_pass(error, passes) -> None:
    assert may_pass(error) is passes
