"""Errors of a whole job, and of one row."""

from mlpserve_client.errors import MlpserveError


class ScoringError(MlpserveError):
    """The job cannot continue: an input or the output is invalid, or differs from what the job began with."""

    page = "docs/scoring.md#resuming-a-job"
    exit_code = 1


class InputChangedError(ScoringError):
    """An input changed after the job began; parts that do not depend on it are kept."""

    page = "docs/scoring.md#inputs-that-change"
    exit_code = 3


class TooManyErrors(ScoringError):
    """More rows are bad than `--max-errors` allows."""


class BadRow(Exception):
    """One row cannot be scored.

    Attributes:
        reason: a short description, the same for all rows with this problem, for counting.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
