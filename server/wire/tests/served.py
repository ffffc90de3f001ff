"""A wire with small methods behind it, for the tests."""

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpserve_wire import Column, Event, Kind, Limits, Method, PlainFormat, Wire, WireCall, listening_socket

PIXELS = 16
PREFIX = b"\x1a\x10"
HOT, OTHER_HOT = "/test.Service/Hot", "/test.Service/Other"
ECHO, COUNT, FAIL, TALK, OPEN, DICTATE = (
    f"/test.Service/{name}" for name in ("Echo", "Count", "Fail", "Talk", "Open", "Dictate")
)
LARGEST, LARGEST_CONTROL = 1 << 20, 1 << 14
METHODS = [
    Method(HOT, Kind.HOT, LARGEST),
    Method(OTHER_HOT, Kind.HOT, LARGEST),
    Method(ECHO, Kind.CONTROL, LARGEST_CONTROL),
    Method(COUNT, Kind.CONTROL, LARGEST_CONTROL),
    Method(FAIL, Kind.CONTROL, LARGEST_CONTROL),
    Method(TALK, Kind.STREAM, LARGEST_CONTROL),
    Method(OPEN, Kind.CONTROL, LARGEST_CONTROL, open=True),
    Method(DICTATE, Kind.STREAM, LARGEST),
]
HELD, BROKEN = b"hold", b"break"  # payloads of HOT: no answer until `release`, and an error
WAIT = 10.0


@dataclass
class Served:
    """A wire that serves METHODS.

    HOT answers with the sum of a plain request's pixels as one byte, or with the payload behind "object:"; the others
    as their names say.

    Attributes:
        wire: it.
        address: HOST:PORT.
        plain: how many plain calls came.
        items: of all calls, as they came together: how many rows a column had, or an object's payload.
        takes_plain: whether it was told which requests are.
        columns: as they came.
        objects: the calls of HOT that came as objects and were not plain.
        held: calls that wait for `release`.
        gone: numbers of calls that Python was told have gone.
        metadata: of the last call of ECHO.
    """

    wire: Wire
    address: str
    plain: int = 0
    takes_plain: bool = True
    items: list[int | bytes] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    objects: list[WireCall] = field(default_factory=list)
    held: list[WireCall] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    stopping: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    answering: threading.Event = field(default_factory=threading.Event)
    reading: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def wait_for(self, holds: Any) -> None:
        """Wait until something holds of what was received."""
        with self.changed:
            assert self.changed.wait_for(holds, WAIT), "it did not happen in time"

    def wait_for_counter(self, name: str, count: int = 1) -> None:
        """Wait until a counter has come so far."""
        for _ in range(int(WAIT / 0.02)):
            if self.wire.counters()[name] >= count:
                return
            threading.Event().wait(0.02)
        raise AssertionError(f"{name} of {self.wire.counters()} has not become {count}")

    def release(self) -> None:
        """Answer the calls that are held."""
        with self.changed:
            held, self.held = self.held, []
        self.wire.send([(call.number, b"released") for call in held])

    def receive(self) -> None:
        while not self.stopping:
            self.answering.wait()
            arrived = self.wire.receive(0.05)
            answers = []
            with self.changed:
                self.gone += arrived.gone.tolist()
                for call in arrived.items:
                    if isinstance(call, Column):
                        self._answer_rows(call)
                        continue
                    self.items.append(call.payload)
                    if self.takes_plain and not call.metadata and is_plain(call.payload):
                        self.plain += 1
                        answers.append((call.number, bytes([sum(call.payload[len(PREFIX) :]) % 256])))
                        continue
                    self.objects.append(call)
                    if call.payload == HELD:
                        self.held.append(call)
                    elif call.payload == BROKEN:
                        details = (("reason", "broken"), ("detail-bin", bytes(range(256))))
                        self.wire.finish([call.number], 3, "it is 100 % broken: Ω", details)
                    else:
                        answers.append((call.number, b"object:" + call.payload))
                self.changed.notify_all()
            self.wire.send(answers)

    def _answer_rows(self, column: Column) -> None:
        count = len(column.numbers)
        assert count > 1, "one that comes by itself is an object"
        assert (column.method in (0, 1), column.prefix) == (True, PREFIX)
        assert column.pixels.shape == (count, PIXELS)
        assert len(column.arrived) == len(column.deadlines) == len(column.callers) == count
        self.plain += count
        self.items.append(count)
        self.columns.append(column)
        sums = column.pixels.sum(axis=1, dtype=np.uint8)[:, None]
        self.wire.send_rows(column.numbers, np.ascontiguousarray(sums))

    def handle(self) -> None:
        while not self.stopping:
            self.reading.wait()
            for event in self.wire.events(0.05):
                self._handle(event)

    def _handle(self, event: Event) -> None:
        wire, call = self.wire, event.call
        path = METHODS[call.method].path
        if event.kind == "gone":
            with self.changed:
                self.gone.append(call.number)
                self.changed.notify_all()
            wire.finish([call.number], 1, "", ())
        elif path == COUNT:
            for number in range(int(call.payload)):
                wire.write(call.number, b"%d" % number)
            wire.finish([call.number], 0, "", (("counted", "all"),))
        elif path == FAIL:
            wire.finish([call.number], int(call.payload), "as asked", ())
        elif path in (TALK, DICTATE):
            if event.kind == "message":
                wire.write(call.number, b"heard " + call.payload)
            if event.kind == "end":
                wire.finish([call.number], 0, "", ())
            else:
                wire.ask(call.number)
        else:
            self.metadata = call.metadata
            wire.send([(call.number, call.payload)])


@contextlib.contextmanager
def serving(
    limits: Limits | None = None,
    *,
    address: str = "127.0.0.1:0",
    tls: tuple[bytes, bytes, bytes] | None = None,
    tokens: list[bytes] | None = None,
    plain: bool = True,
    takeover: float = 0.001,
) -> Iterator[Served]:
    """Serve METHODS from two threads of this process."""
    wire = Wire(limits or Limits(), METHODS, telling=["traceparent"], takeover=takeover)
    if tls:
        wire.set_tls(*tls)
    wire.set_tokens(tokens)
    wire.set_no_room("there is no room: as many messages as it has room for", (("retry-bin", b"soon"),))
    if plain:
        wire.set_plain([PlainFormat(0, PREFIX, PIXELS), PlainFormat(1, PREFIX, PIXELS)])
    listening = listening_socket(address)
    name = listening.getsockname()
    wire.listen(listening.detach())
    wire.start()
    text = name if isinstance(name, str) else f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    served = Served(wire, text, takes_plain=plain)
    served.answering.set()
    served.reading.set()
    threads = [threading.Thread(target=served.receive), threading.Thread(target=served.handle)]
    for thread in threads:
        thread.start()
    try:
        yield served
    finally:
        served.stopping = True
        served.answering.set()
        served.reading.set()
        for thread in threads:
            thread.join()
        wire.stop(0.5)


def is_plain(payload: bytes) -> bool:
    return payload.startswith(PREFIX) and len(payload) == len(PREFIX) + PIXELS


def no_deadline(call: WireCall) -> bool:
    return math.isinf(call.deadline)
