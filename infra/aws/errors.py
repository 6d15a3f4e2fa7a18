"""What the tool has to say to the person at the terminal."""

from __future__ import annotations


class DeploymentError(Exception):
    """The person at the terminal has to do something; the message says what. Shown without a traceback."""


class SettingsError(DeploymentError):
    """The settings file is wrong, each fault in a line of the message; nothing was changed."""


class DeclinedError(DeploymentError):
    """The person at the terminal said no; the message says what was done until then."""
