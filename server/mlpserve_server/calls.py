"""Calls on their way from a transport to the batching loop and back, each an object or many as the rows of arrays.

transport.receive() ─┬▶ Call ──▶ … ──▶ (Call, reply bytes or CallError) ─┬▶ transport.send()
                     └▶ Rows ──▶ … ──▶ (Rows, replies uint8 [N, R]) ─────┘
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

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


class PlainFormat(NamedTuple):
    """Messages that may come as Rows: a prefix, then the pixels of one image, and nothing else.

    Attributes:
        method: the place in METHODS.
        prefix: what stands before the pixels.
        pixels: D.
    """

    method: int
    prefix: bytes
    pixels: int


class RowSource(Protocol):
    """What a transport knows of the calls that it has handed over as rows."""

    def alive(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Whether callers still wait, [N]."""

    def call(self, rows: "Rows", place: int) -> Call:
        """One row as an object, with its message, its times and whether its caller still waits."""


class Block:
    """Columns of calls that arrived together; see `Rows`."""

    __slots__ = ("columns",)

    def __init__(self, *columns: npt.NDArray[Any]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])


class Rows:
    """N calls without objects: what differs between them is columns. All have one prefix, and one class of traffic.

    Parts of them are places in the same columns; nothing is copied before they run.

    Args:
        source: knows more of them.
        form: of their messages.
        pixels: uint8 [N, D].
        numbers: by which the source knows them, uint64 [N].
        callers: whose calls they are, uint64 [N]; unless `caller` says that they are one caller's.
        arrived: time.monotonic() of each arrival, float64 [N].
        deadlines: time.monotonic() after which nobody waits for the answers, float64 [N]; inf without one.

    Attributes:
        block: the columns, of these calls and maybe of others.
        places: which of the block's rows these are, int64 [N]; None: all.
        caller: whose calls all of them are; None: see `callers`.
        only_batch: whether their caller may send batch traffic only.
        asked: the form of their answers, as their codec reads it; None until that is known.
        traffic: which of TRAFFIC they wait in; None until that is known.
    """

    __slots__ = ("asked", "block", "caller", "form", "only_batch", "places", "source", "traffic")

    def __init__(
        self,
        source: RowSource,
        form: PlainFormat,
        pixels: npt.NDArray[np.uint8],
        numbers: npt.NDArray[np.uint64],
        callers: npt.NDArray[np.uint64],
        arrived: npt.NDArray[np.float64],
        deadlines: npt.NDArray[np.float64],
    ) -> None:
        self.source = source
        self.form = form
        self.block = Block(pixels, numbers, callers, arrived, deadlines)
        self.places: npt.NDArray[np.intp] | None = None
        self.caller: Hashable = None
        self.only_batch = False
        self.asked: Any = None
        self.traffic: int | None = None

    def __len__(self) -> int:
        return len(self.block if self.places is None else self.places)

    def _column(self, number: int) -> npt.NDArray[Any]:
        column = self.block.columns[number]
        return column if self.places is None else column[self.places]

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """See the class."""
        return self._column(0)

    @property
    def numbers(self) -> npt.NDArray[np.uint64]:
        """See the class."""
        return self._column(1)

    @property
    def callers(self) -> npt.NDArray[np.uint64]:
        """See the class."""
        return self._column(2)

    @property
    def arrived(self) -> npt.NDArray[np.float64]:
        """See the class."""
        return self._column(3)

    @property
    def deadlines(self) -> npt.NDArray[np.float64]:
        """See the class."""
        return self._column(4)

    @property
    def method(self) -> int:
        """Which of METHODS they are of, by its place there."""
        return self.form.method

    def _like(self, block: Block, places: npt.NDArray[np.intp] | None) -> "Rows":
        rows = Rows.__new__(Rows)
        rows.source, rows.form, rows.block, rows.places = self.source, self.form, block, places
        rows.caller, rows.only_batch, rows.asked, rows.traffic = self.caller, self.only_batch, self.asked, self.traffic
        return rows

    def part(self, which: "slice | npt.NDArray[Any]") -> "Rows":
        """Some of them: a slice, a mask, or places in order."""
        places = np.arange(len(self.block)) if self.places is None else self.places
        return self._like(self.block, places[which])

    def own(self) -> "Rows":
        """The same with columns of their own, which hold nothing of other calls."""
        return self if self.places is None else joined([self])

    def living(self, now: float) -> npt.NDArray[np.bool_]:
        """Which of them somebody waits for, [N]."""
        return self.source.alive(self.numbers) & (self.deadlines > now)

    def calls(self) -> list[Call]:
        """The same calls as objects."""
        rows, calls = self.own(), []
        for place in range(len(rows)):
            call = rows.source.call(rows, place)
            call.caller = int(rows.callers[place]) if rows.caller is None else rows.caller
            call.images, call.only_batch, call.traffic = 1, rows.only_batch, rows.traffic
            calls.append(call)
        return calls

    def by_caller(self) -> "Iterator[tuple[Hashable, Rows]]":
        """Each caller with its rows, the one that came first before the others."""
        if self.caller is not None:
            yield self.caller, self
            return
        callers = self.callers
        order = np.argsort(callers, kind="stable")
        starts = np.flatnonzero(np.diff(callers[order])) + 1
        for places in sorted(np.split(order, starts), key=lambda places: int(places[0])):
            yield int(callers[places[0]]), self.part(places) if len(places) < len(self) else self


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of one form and class as one, with columns of their own."""
    first = parts[0]
    if len(parts) == 1 and first.places is None:
        return first
    of_block: dict[Block, list[npt.NDArray[np.intp]]] = {}
    for part in parts:
        places = np.arange(len(part.block)) if part.places is None else part.places
        of_block.setdefault(part.block, []).append(places)
    pieces = [(block, np.concatenate(places)) for block, places in of_block.items()]
    count = sum(len(places) for _, places in pieces)
    columns = [np.empty((count, *column.shape[1:]), column.dtype) for column in first.block.columns]
    start = 0
    for block, places in pieces:
        stop = start + len(places)
        for column, source in zip(columns, block.columns, strict=True):
            np.take(source, places, axis=0, out=column[start:stop], mode="clip")  # "raise" would copy twice
        start = stop
    rows = first._like(Block(*columns), None)
    if len(parts) > 1:
        rows.caller, rows.only_batch = None, False
    return rows


def each(items: Iterable[Call | Rows]) -> Iterator[Call]:
    """All of them as objects."""
    for item in items:
        if isinstance(item, Rows):
            yield from item.calls()
        else:
            yield item


Answer = tuple[Call, bytes | CallError] | tuple[Rows, npt.NDArray[np.uint8]]


class Transport(Protocol):
    """Carries calls of METHODS. `receive` and `send` belong to one thread, the batching loop's."""

    name: str

    def start(self) -> str:
        """Listen, and return the address as HOST:PORT with the real port.

        Raises:
            ListenError: the address cannot be listened on.
        """

    def expect(self, formats: Sequence[PlainFormat]) -> None:
        """Be told which calls may come as Rows from now on."""

    def receive(self, timeout: float) -> Sequence[Call | Rows]:
        """Every call that has arrived since the last time; waits up to `timeout` seconds for the first one."""

    def send(self, answers: Sequence[Answer]) -> float:
        """Answer calls that `receive` gave; those that nobody waits for any longer are ignored.

        Returns:
            time.monotonic() when the last one left.
        """

    def listened(self) -> float:
        """time.monotonic() of when connections were last seen to be taken; from any thread, looks at nothing."""

    def set_serving(self, serving: bool) -> None:
        """Set the health status that Check answers and Watch streams are told."""

    def stop(self) -> None:
        """Let what was sent reach the wire and close; calls that were not answered end as UNAVAILABLE."""
