"""Which methods a `Wire` takes calls of, and which requests need no object."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How the calls of a method reach Python."""

    HOT = "hot"
    """One message. From `Wire.receive`, many at a time."""
    CONTROL = "control"
    """One message, and as many replies as wanted. From `Wire.events`."""
    STREAM = "stream"
    """Any number of messages, each for an `ask`, and replies. From `Wire.events`.

    While more than 1 MiB of its replies are unread, a call's next message waits.
    """


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        path: "/package.Service/Method".
        kind: how its calls reach Python.
        max_message: bytes of the largest request; larger ones end with RESOURCE_EXHAUSTED as soon as their length is
            read.
        open: needs no token, where others need one.
    """

    path: str
    kind: Kind
    max_message: int
    open: bool = False


@dataclass(frozen=True)
class PlainFormat:
    """Requests that travel as rows: a constant prefix, then the pixels of one image, and nothing else.

    Attributes:
        method: by its place among the methods of the `Wire`.
        prefix: what comes before the pixels.
        pixels: bytes of one image.
    """

    method: int
    prefix: bytes
    pixels: int
