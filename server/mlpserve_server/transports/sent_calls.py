"""Calls as the transports make them: with the metadata that came beside the message."""

from collections.abc import Mapping

from mlpserve_server.calls import Call
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


class NumberedCall(SentCall):
    """A call that a compiled part knows by a number.

    Attributes:
        number: what it calls it.
    """

    __slots__ = ("number",)
    number: int
