"""The stand-in for Amazon Keyspaces: a real Cassandra with Keyspaces' TLS, passwords, limits and DDL."""

from infra.local.cassandra.roles import is_ready, prepare_roles, session, wait_until_ready

__all__ = ["is_ready", "prepare_roles", "session", "wait_until_ready"]
