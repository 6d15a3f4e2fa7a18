"""The local AWS and the roles of a deployment as fixtures, and moto's EMR as it was, for those who want that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.emr import models, urls

from tests.unit.infra.aws.cloud import cloud
from tests.unit.infra.aws.identities import who

__all__ = ["cloud", "who"]

OF_MOTO = models.Cluster, models.emr_backends.backend, dict(urls.url_paths)


@pytest.fixture(autouse=True, scope="module")
def emr_of_moto() -> Iterator[None]:
    """Take the local EMR out of moto's place again: a process runs the tests of several files."""
    yield
    models.emr_backends.clear()
    models.Cluster, models.emr_backends.backend, paths = OF_MOTO  # type: ignore[misc]
    urls.url_paths = dict(paths)
