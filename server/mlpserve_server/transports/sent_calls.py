"""Calls as the transports make them: with the metadata that came beside the message."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import cast

from mlpserve_server.calls import Answer, Call
from mlpserve_server.errors import CallError
from mlpserve_server.transports.tokens import Metadata


class SentCall(Call):
    """A call with its metadata.

    Attributes:
        sent: its metadata; those whose values are bytes are not shown.
    """

    __slots__ = ("sent",)
    sent: Metadata

    def metadata(self) -> Mapping[str, str]:
        """What the caller sent beside the message, as text; keys in lower case."""
        return {key: value for key, value in self.sent if isinstance(value, str)}


class AwaitedCall(SentCall):
    """A call whose answer is waited for on an event loop.

    Attributes:
        answer: belongs to that loop.
    """

    __slots__ = ("answer",)
    answer: "asyncio.Future[bytes | CallError]"


def resolve(answers: Iterable[Answer]) -> None:
    """Give calls that are all `AwaitedCall` their answers; to be called on their event loop."""
    for call, answer in answers:
        assert isinstance(call, AwaitedCall)
        if not call.answer.done():
            call.answer.set_result(cast("bytes | CallError", answer))


class NumberedCall(SentCall):
    """A call that a compiled part knows by a number.

    Attributes:
        number: what it calls it.
    """

    __slots__ = ("number",)
    number: int
