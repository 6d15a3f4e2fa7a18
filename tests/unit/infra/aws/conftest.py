"""The local AWS and the roles of a deployment as fixtures, and moto's EMR and ECS as they were, for who wants that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.ecs import models as ecs_models
from moto.ecs import urls as ecs_urls
from moto.emr import models, urls

from tests.unit.infra.aws.cloud import cloud
from tests.unit.infra.aws.identities import who

__all__ = ["cloud", "who"]

OF_MOTO = models.Cluster, models.emr_backends.backend, dict(urls.url_paths)
ECS_OF_MOTO = ecs_models.Task, ecs_models.ecs_backends.backend, dict(ecs_urls.url_paths)


@pytest.fixture(autouse=True, scope="module")
def services_of_moto() -> Iterator[None]:
    """Take the local EMR and ECS out of moto's place again: a process runs the tests of several files."""
    yield
    models.emr_backends.clear()
    models.Cluster, models.emr_backends.backend, paths = OF_MOTO  # type: ignore[misc]
    urls.url_paths = dict(paths)
    ecs_models.ecs_backends.clear()
    ecs_models.Task, ecs_models.ecs_backends.backend, ecs_paths = ECS_OF_MOTO  # type: ignore[misc]
    ecs_urls.url_paths = dict(ecs_paths)
