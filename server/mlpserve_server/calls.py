"""A call on its way from a transport to the batching loop and back.

transport.receive() ──▶ [Call] ──▶ … ──▶ transport.send([(Call, reply bytes or CallError)])
"""

import math
from collections.abc import Hashable, Mapping
from typing import Any, Protocol

from mlpserve_server.errors import CallError

# The methods that go to the batching loop; elsewhere they are known by their place in METHODS.
PREDICT = "/mlpserve.v1.ClassifierService/Predict"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
METHODS = (PREDICT, MODEL_INFER)
MODEL_STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"  # each of its messages is a call of ModelInfer

# Who waits for an answer: the classes of traffic, elsewhere known by their place in TRAFFIC.
INTERACTIVE, BATCH = 0, 1
TRAFFIC = ("interactive", "batch")
TRAFFIC_KEY = "mlpserve-traffic"  # metadata in which callers may say it


class Call:
    """One call that waits for its answer; each transport makes its own kind, which holds what it needs to answer.

    Args:
        payload: the request message's bytes.
        arrived: time.monotonic() of its arrival.
        time_left: seconds until its deadline; None without one.
        method: which of METHODS it is, by its place there.
        caller: whose call it is: a connection, or a token.

    Attributes:
        said: what its metadata say of its traffic; empty if nothing.
        only_batch: whether its caller may send batch traffic only.
        traffic: which of TRAFFIC it waits in; None until that is known.
        request: what its codec has read in it; None until then.
        progress: how far it has come, if it runs in slices; None until it does.
        deadline: time.monotonic() after which nobody waits for the answer; inf without one.
        alive: False once the caller has cancelled; set by the transport at any time.
        images: how many images the queue has counted it as.
    """

    __slots__ = (
        *("alive", "arrived", "caller", "deadline", "images", "method"),
        *("only_batch", "payload", "progress", "request", "said", "traffic"),
    )

    def __init__(
        self, payload: bytes, arrived: float, time_left: float | None, method: int, caller: Hashable = ""
    ) -> None:
        self.payload = payload
        self.arrived = arrived
        self.deadline = math.inf if time_left is None else arrived + time_left
        self.alive = True
        self.images = 0
        self.method = method
        self.caller = caller
        self.said = ""
        self.only_batch = False
        self.traffic: int | None = None
        self.request: Any = None
        self.progress: Any = None

    def metadata(self) -> Mapping[str, str]:
        """What the caller sent beside the message; keys in lower case."""
        return {}


Answer = tuple[Call, bytes | CallError]


class Transport(Protocol):
    """Carries calls of METHODS. `receive` and `send` belong to one thread, the batching loop's."""

    name: str

    def start(self) -> str:
        """Listen, and return the address as HOST:PORT with the real port.

        Raises:
            ListenError: the address cannot be listened on.
        """

    def receive(self, timeout: float) -> list[Call]:
        """Every call that has arrived since the last time; waits up to `timeout` seconds for the first one."""

    def send(self, answers: list[Answer]) -> None:
        """Answer calls that `receive` gave; those that nobody waits for any longer are ignored."""

    def listened(self) -> float:
        """time.monotonic() of when connections were last seen to be taken; from any thread, looks at nothing."""

    def set_serving(self, serving: bool) -> None:
        """Set the health status that Check answers and Watch streams are told."""

    def stop(self) -> None:
        """Let what was sent reach the wire and close; calls that were not answered end as UNAVAILABLE."""
