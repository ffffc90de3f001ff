"""Which files that are watched cannot be read just now, so that what was read before stays in effect."""

_names: set[str] = set()


def note(name: str, *, unread: bool) -> bool:
    """Say whether a watched file, or several that go together, cannot be read; from any thread.

    Returns:
        Whether that is new.
    """
    new = unread is not (name in _names)
    (_names.add if unread else _names.discard)(name)
    return new


def count() -> int:
    """How many of them there are."""
    return len(_names)
