"""What all errors of training sets have in common."""

from __future__ import annotations


class TrainingError(Exception):
    """No training set can be made; the message is one sentence that says why."""
