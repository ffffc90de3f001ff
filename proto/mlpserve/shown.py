"""Text that others supplied, for one line of a log, a terminal, an error or a page."""

MOST = 300  # characters


def shown(text: object, most: int = MOST) -> str:
    """Text with nothing in it that a terminal obeys, that ends a line or that cannot be seen, cut to a length.

    Line ends, escape sequences, controls, marks that turn the direction of writing and lone surrogates become escapes.
    Text that is printable already stays as it is, unless it is too long.

    Args:
        text: whatever callers, servers or files supplied; its str.
        most: characters of it.
    """
    whole = str(text)
    if len(whole) <= most and whole.isprintable():
        return whole
    safe = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in whole[:most]
    )
    return safe if len(whole) <= most else f"{safe}… ({len(whole):,} characters)"
