"""The state of a file, to detect changes while a job reads it.

A local file is identified by its size and modification time (mtime), which a copy may share, and while the job runs
also by its inode and inode change time (ctime). No program can set ctime back, so a file that is overwritten in place
with the same number of bytes and given its old mtime is detected. An object is identified by what its store reports:
ETag, version.
"""

import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.remote import MissingError, asked, filesystem, is_remote

# Fields by which stores identify an object's content; the first one present is used.
MARKS = (
    *("ETag", "etag", "VersionId", "version_id", "generation", "md5Hash", "content_md5"),
    *("mtime", "LastModified", "last_modified", "updated", "modified", "created"),
)


class State(NamedTuple):
    """The state of a file.

    Attributes:
        size: bytes.
        mark: identifies the content on every machine: mtime in nanoseconds, or what the store reports; "" if it
            reports nothing.
        own: identifies the file on this machine: device, inode and ctime.
    """

    size: int
    mark: str
    own: tuple[int, ...] = ()


def look(path: str) -> State:
    """The current state of a file.

    Raises:
        MissingError: it does not exist.
        ScoringError: it cannot be examined.
    """
    if is_remote(path):
        remote = filesystem(path)
        remote.invalidate_cache()  # otherwise it returns the cached listing
        return of_object(asked(path, remote.info))
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise ScoringError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ScoringError(f"{path}: neither a file nor a folder; inputs are read several times, so save it to a file")
    return State(status.st_size, str(status.st_mtime_ns), (status.st_dev, status.st_ino, status.st_ctime_ns))


def of_object(info: Mapping[str, Any]) -> State:
    """An object's state, from what its store reports."""
    mark = next((f"{name}={info[name]}" for name in MARKS if info.get(name)), "")
    return State(int(info.get("size") or 0), mark)


def difference(before: State, after: State) -> str:
    """The difference in words; "" for none."""
    if before.size != after.size:
        return f"it had {before.size:,} bytes and has {after.size:,}"
    if before.mark != after.mark:
        return "it was written again"
    if before.own[:2] != after.own[:2]:
        return "another file is in its place"
    if before.own != after.own:
        return "it was written again or its attributes were set, and its time of change is as before"
    return ""


def change(path: str, before: State) -> str:
    """What has changed since then, in words; "" for nothing.

    Raises:
        ScoringError: it cannot be examined.
    """
    try:
        return difference(before, look(path))
    except MissingError:
        return "it is gone"
