"""What can be wrong with a job as a whole, and with one row."""

from mlpserve_client.errors import MlpserveError


class ScoringError(MlpserveError):
    """The job cannot go on: the input or the output as a whole is wrong, or is not what the job began with."""

    page = "docs/scoring.md#resuming-a-job"
    exit_code = 1


class InputChangedError(ScoringError):
    """An input is no longer what it was when the job began; the parts that do not rest on it are kept."""

    page = "docs/scoring.md#inputs-that-change"
    exit_code = 3


class TooManyErrors(ScoringError):
    """More rows are bad than `--max-errors` allows."""


class BadRow(Exception):
    """One row cannot be scored.

    Attributes:
        reason: a few words that are the same for all rows with the same problem, for counting.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
