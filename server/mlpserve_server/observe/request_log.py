"""A sample of the requests that failed or were slow, with what is needed to find them again."""

import logging
import time

from mlpserve_server.calls import METHODS, TRAFFIC, Call, Rows
from mlpserve_server.errors import CallError

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0  # at most one line of each kind in so long
REQUEST_ID = "x-request-id"


class RequestLog:
    """Writes about requests. A busy server pays a comparison for a batch.

    Args:
        slow: seconds above which a request is slow; 0: none is.
    """

    def __init__(self, slow: float) -> None:
        self._slow = slow
        self._next = {"failed": 0.0, "slow": 0.0}
        self._left_out = {"failed": 0, "slow": 0}

    def failed(self, call: Call, error: CallError) -> None:
        """A call ends with an error."""
        if self._may_write("failed"):
            self._write("failed", call, {"code": error.code.name, "reason": str(error)[:300]})

    def answered(self, calls: list[Call] | Rows, images: int, started: float, now: float) -> None:
        """Calls of a batch have been answered.

        Args:
            calls: at least one; the first one stands for all.
            images: in the batch.
            started: time.monotonic() when the batch began.
            now: time.monotonic() of the answers.
        """
        if not self._slow:
            return
        arrived = calls.arrived[0] if isinstance(calls, Rows) else calls[0].arrived
        if now - arrived > self._slow and self._may_write("slow"):
            first = calls.part(slice(1)).calls()[0] if isinstance(calls, Rows) else calls[0]
            seconds = {"queue_seconds": round(started - first.arrived, 4), "run_seconds": round(now - started, 4)}
            self._write("slow", first, {**seconds, "batch_images": images})

    def _may_write(self, kind: str) -> bool:
        if time.monotonic() < self._next[kind]:
            self._left_out[kind] += 1
            return False
        return True

    def _write(self, kind: str, call: Call, fields: dict[str, object]) -> None:
        self._next[kind] = time.monotonic() + SAMPLE_SECONDS
        fields = {
            "method": METHODS[call.method].rpartition("/")[2],
            "request_id": call.metadata().get(REQUEST_ID, ""),
            "images": call.images,
            "traffic": "" if call.traffic is None else TRAFFIC[call.traffic],
            **fields,
            "others_like_it": self._left_out[kind],
        }
        self._left_out[kind] = 0
        log.warning("%s request", kind, extra={"fields": fields})
