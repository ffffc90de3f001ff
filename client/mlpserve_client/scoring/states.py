"""What a file is at one time, so that a change while a job reads it is seen.

A local file is known by its size and time of change, which a copy may share, and while the job runs by its inode and
the time at which the inode changed as well: no program can set that one back, so a file that is overwritten in place
with as many bytes and gets its old time of change again is found out. An object has what its store says: ETag, version.
"""

import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.remote import MissingError, asked, filesystem, is_remote

# By which stores tell an object's contents apart; the first that there is.
MARKS = (
    *("ETag", "etag", "VersionId", "version_id", "generation", "md5Hash", "content_md5"),
    *("mtime", "LastModified", "last_modified", "updated", "modified", "created"),
)


class State(NamedTuple):
    """What a file is.

    Attributes:
        size: bytes.
        mark: of its content, on every machine: the time of change in nanoseconds, or what the store says; "" if it
            says nothing.
        own: of this file on this machine: device, inode, and the time at which the inode changed.
    """

    size: int
    mark: str
    own: tuple[int, ...] = ()


def look(path: str) -> State:
    """What a file is now.

    Raises:
        MissingError: it is not there.
        ScoringError: it cannot be looked at.
    """
    if is_remote(path):
        remote = filesystem(path)
        remote.invalidate_cache()  # or it says what it said before
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
    """An object's state, of what its store says."""
    mark = next((f"{name}={info[name]}" for name in MARKS if info.get(name)), "")
    return State(int(info.get("size") or 0), mark)


def difference(before: State, after: State) -> str:
    """What has changed, in words; "" for nothing."""
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
    """What has changed since, in words; "" for nothing.

    Raises:
        ScoringError: it cannot be looked at.
    """
    try:
        return difference(before, look(path))
    except MissingError:
        return "it is gone"
