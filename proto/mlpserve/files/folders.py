"""Folders of people's files: the one walk over them, what is passed over, and which folders and files are splits.

Trainer, `mlpserve predict` and `mlpserve score` walk by these rules, so all three find the same files.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

HIDDEN, SYSTEM = "hidden", "of the operating system or a program"
LOOP, DANGLING, SPECIAL = "a link back to a folder above it", "a link to nothing", "neither a file nor a folder"
UNREADABLE = "a folder that may not be read"
BOOKKEEPING = "a table's bookkeeping"
# What systems and programs leave among people's files, in lower case; names that begin with a dot are hidden anyway.
SYSTEM_NAMES = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "#snapshot", "lost+found", "$recycle.bin", "recycler", "__pycache__"),
        *("system volume information", "found.000", "network trash folder", "temporary items"),
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    )
)
MOST_VISITS = 64  # of one folder, by as many links

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "fit"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), TEST),
}
_FILLERS = frozenset(
    (
        *("set", "sets", "data", "dataset", "split", "splits", "seg", "image", "images", "img", "imgs", "pictures"),
        *("folder", "dir", "of", "label", "labels"),
    )
)
_WORDS = re.compile(r"[^a-z]+")


@dataclass
class Found:
    """What lies below a folder.

    Attributes:
        files: paths inside it with "/" between their parts, in order.
        passed_over: paths inside it and why; a folder that is passed over stands for itself, not for what it holds.
    """

    files: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)


def why_not(name: str) -> str | None:
    """Why nothing of this name is taken, at any depth; None for what is.

    Args:
        name: of a file or folder, without what is above it.
    """
    if name.startswith("."):
        return HIDDEN
    return SYSTEM if name.lower() in SYSTEM_NAMES else None


def why_not_path(path: str) -> str | None:
    """Why nothing at this path inside a folder is taken, for what lists paths itself; None for what is."""
    return next((why for part in path.split("/") if (why := why_not(part))), None)


def walk(root: str) -> Found:
    """Every file below a folder; links are followed, but not back to a folder that they lie in.

    Raises:
        OSError: the folder itself cannot be read.
    """
    found = Found()
    status = os.stat(root)  # noqa: PTH116
    os.scandir(root).close()
    visits: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", ((status.st_dev, status.st_ino),))]
    while waiting:
        folder, prefix, above = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError:
            found.passed_over[prefix.rstrip("/")] = UNREADABLE
            continue
        for entry in entries:
            path = prefix + entry.name
            why, own = _why_not_entry(entry)
            if why is None and own is not None:
                visits[own] += 1
                why = LOOP if own in above or visits[own] > MOST_VISITS else None
            if why is not None:
                found.passed_over[path] = why
            elif own is not None:
                waiting.append((entry.path, path + "/", (*above, own)))
            else:
                found.files.append(path)
    found.files.sort()
    found.passed_over = dict(sorted(found.passed_over.items()))
    return found


def _why_not_entry(entry: "os.DirEntry[str]") -> tuple[str | None, tuple[int, int] | None]:
    """Why an entry is not taken, or None; and device and inode of a folder."""
    if (why := why_not(entry.name)) is not None:
        return why, None
    try:
        status = entry.stat()
    except OSError:
        return DANGLING, None
    if stat.S_ISDIR(status.st_mode):
        return None, (status.st_dev, status.st_ino)
    return (None if stat.S_ISREG(status.st_mode) else SPECIAL), None


def subfolders(root: str) -> list[str]:
    """Names of the folders in a folder that are taken, in order; links to folders are among them.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(root) as listing:
        return sorted(entry.name for entry in listing if why_not(entry.name) is None and entry.is_dir())


def split_of(name: str) -> str | None:
    """Which split a folder of this name holds: TRAIN, VALIDATION or TEST; None for a class or anything else.

    "Train", "seg_train", "training-set" and "VAL" are splits, "trains" and "test tube" are not.
    """
    words = [word for word in _WORDS.split(name.lower()) if word]
    splits = [_SPLITS[word] for word in words if word in _SPLITS]
    if len(splits) == 1 and all(word in _SPLITS or word in _FILLERS for word in words):
        return splits[0]
    return None


def split_of_file(stem: str) -> str | None:
    """Which split a file of this name holds, by its first words: "validation-00000-of-00001", "test_images"."""
    words = [word for word in _WORDS.split(stem.lower()) if word]
    while words and words[0] in _FILLERS:
        del words[0]
    return _SPLITS.get(words[0]) if words else None


def partitions(path: str) -> dict[str, str]:
    """Columns that the folders on the way to a table's file stand for, as Hive and Spark write them."""
    pairs = (part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
    return {name: unquote(value) for name, value in pairs if name and value != "__HIVE_DEFAULT_PARTITION__"}


def is_bookkeeping(path: str) -> bool:
    """Whether a table's file is not rows but what its writer keeps beside them, in names that begin with "_"."""
    return any(part.startswith("_") and "=" not in part for part in path.split("/"))


def counted(passed_over: dict[str, str]) -> dict[str, int]:
    """How many were passed over, by reason."""
    return dict(Counter(passed_over.values()))


def sentence(passed_over: dict[str, str], shown: int = 3) -> str:
    """What was passed over, in words: how many for each reason, and some names; "" for nothing."""
    parts = []
    for why, count in Counter(passed_over.values()).most_common():
        names = list(_first(passed_over, why, shown))
        more = f" and {count - len(names):,} more" if count > len(names) else ""
        parts.append(f"{count:,} {why} ({', '.join(names)}{more})")
    return "; ".join(parts)


def _first(passed_over: dict[str, str], why: str, shown: int) -> Iterator[str]:
    for path, reason in passed_over.items():
        if reason == why and shown > 0:
            shown -= 1
            yield path
