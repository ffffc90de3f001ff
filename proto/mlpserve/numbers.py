"""Bounds of numbers that people give: infinity, and what overflows in the libraries below, are no settings."""

LONGEST = 1_000_000.0  # seconds, eleven days; gRPC overflows at about ten thousand times as many
MOST = 2**31 - 1  # of whatever is counted


def is_seconds(value: float) -> bool:
    """Whether a time can be waited for: 0 to `LONGEST`."""
    return 0 <= value <= LONGEST


def is_count(value: float) -> bool:
    """Whether a number is finite and no larger than what is counted anywhere, whatever its sign."""
    return -MOST <= value <= MOST


def is_whole(text: str) -> bool:
    """Whether text is a number of up to nine digits; `int` does not take all that `isdigit` does, such as ²."""
    return text.isascii() and text.isdecimal() and len(text) < 10
