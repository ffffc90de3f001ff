"""What a start gives, of one process or of several."""

from typing import NamedTuple


class Started(NamedTuple):
    """What answers, and where.

    Attributes:
        model: name.
        version: number.
        precision: "fp32" or "int8".
        address: HOST:PORT with the real port.
    """

    model: str
    version: int
    precision: str
    address: str
