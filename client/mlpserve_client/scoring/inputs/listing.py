"""What lies below a folder, here or in a store, by what it holds; and what of it is passed over."""

import contextlib
from dataclasses import dataclass, field
from functools import partial

from mlpserve.files import folders
from mlpserve.files.arrays import npy_header
from mlpserve.files.kinds import HEAD, Kind, kind_of
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import opened
from mlpserve_client.scoring.remote import MissingError, asked, filesystem, is_remote
from mlpserve_client.scoring.states import State, look, of_object

NO_IMAGES = "numbers in one dimension, as labels are"


@dataclass
class Listing:
    """The files below a folder, by their paths inside it, in order.

    Attributes:
        pictures: what each is now.
        others: files of arrays, tables and archives, which are inputs of their own.
        passed_over: the rest, and why.
    """

    pictures: dict[str, State] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)


def listed(path: str) -> Listing:
    """What lies below a folder.

    Raises:
        ScoringError: it cannot be read.
    """
    found = Listing()
    for name, state in _states(path, found.passed_over).items():
        where = f"{path.rstrip('/')}/{name}"
        kind = kind_of(name, partial(_head, where))
        if kind is Kind.PICTURE:
            found.pictures[name] = state
        elif kind in (Kind.OTHER, Kind.IDX_LABELS):
            found.passed_over[name] = kind.value
        elif kind is Kind.TABLE and folders.is_bookkeeping(name):
            found.passed_over[name] = folders.BOOKKEEPING
        elif kind is Kind.ARRAYS and _is_flat(where):
            found.passed_over[name] = NO_IMAGES
        else:
            found.others.append(name)
    return found


def _states(path: str, passed_over: dict[str, str]) -> dict[str, State]:
    states: dict[str, State] = {}
    if is_remote(path):
        remote = filesystem(path)
        root = str(remote._strip_protocol(path)).rstrip("/") + "/"
        remote.invalidate_cache()  # or it says what it said before
        found = asked(path, lambda path: remote.find(path, detail=True))
        for whole, info in sorted(found.items()):
            name = whole.removeprefix(root)
            why = folders.why_not_path(name)
            if why is None:
                states[name] = of_object(info)
            else:
                passed_over[name] = why
        return states
    try:
        walked = folders.walk(path)
    except OSError as error:
        raise ScoringError(f"{path}: cannot be read ({error.strerror or error})") from error
    passed_over |= walked.passed_over
    for name in walked.files:
        with contextlib.suppress(MissingError):  # gone since
            states[name] = look(f"{path.rstrip('/')}/{name}")
    return states


def _head(path: str) -> bytes:
    try:
        with opened(path) as file:
            return file.read(HEAD)
    except Exception:  # every file system's library has errors of its own; whoever reads it says so
        return b""


def _is_flat(path: str) -> bool:
    """Whether an .npy file holds one number for each row."""
    if not path.lower().endswith(".npy"):
        return False
    try:
        with opened(path) as file:
            return len(npy_header(file)[0]) == 1
    except Exception:  # a damaged one is an input, which is refused in words
        return False
