"""The local AWS as a fixture."""

from tests.unit.infra.aws.cloud import cloud

__all__ = ["cloud"]
