"""Calls that end without a prediction."""

from typing import NamedTuple

from mlpserve_server.calls import Call
from mlpserve_server.errors import CallError


class Failure(NamedTuple):
    """A call that ends without a prediction.

    Attributes:
        call: that ends.
        error: for its caller; None if the caller has cancelled it, so that nobody is to be told.
        dropped: why it never reached a Run, or not with all of its slices, one of `Metrics.dropped`; empty if it did.
    """

    call: Call
    error: CallError | None
    dropped: str = ""
