"""How large data may become: small files that unpack to far more are refused before they fill the memory."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from mlpserve_trainer.errors import DataError

# What a file may unpack to: pictures hardly shrink, raw pixels to a tenth, empty ones to a thousandth.
UNPACKED_BASE, UNPACKED_RATIO = 64 << 20, 100


def check_unpacked(where: str, packed: int, unpacked: int) -> None:
    """Refuse what becomes far larger than it is.

    Args:
        where: names it in errors.
        packed: its bytes in the file.
        unpacked: its bytes in memory.

    Raises:
        DataError: it does.
    """
    if unpacked > UNPACKED_BASE + UNPACKED_RATIO * packed:
        raise DataError(
            f"{where}: becomes {unpacked >> 20:,} MB out of {packed:,} bytes; at most {UNPACKED_BASE >> 20} MB and "
            f"{UNPACKED_RATIO} times its size are unpacked. Save it uncompressed, if that is meant"
        )


def check_memory(where: str, size: int) -> None:
    """Refuse what this machine has no memory for.

    Raises:
        DataError: it has less than `size` bytes.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise DataError(
            f"{where}: all images together are {size >> 20:,} MB, and this machine has {memory >> 20:,} MB of memory; "
            "give --image-size ROWSxCOLS to make them smaller"
        )


def marks(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Size and times of change of files, to see whether they change while they are read."""
    found: dict[str, tuple[int, ...]] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # gone since, or a link to nothing
            status = path.stat()
            # No program can set the inode's own time of change back, as it can the content's.
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def check_unchanged(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]) -> None:
    """Refuse data that was written while it was read: half of it may be of before and half of after.

    Args:
        before: `marks` before the reading.
        after: and behind it.

    Raises:
        DataError: with the first file that changed.
    """
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        others = f", and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise DataError(f"{changed[0]}{others}: changed while it was read; run again when nothing writes to the data")
