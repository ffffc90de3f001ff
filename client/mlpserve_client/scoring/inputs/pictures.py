"""Folders of picture files, and tar archives of them.

A tar archive may be compressed; then it is read from the front only. Members that are no pictures are passed over, so
the shards of WebDataset (a picture and its notes under one name) can be read.
"""

import contextlib
import hashlib
import lzma
import tarfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence

from mlpserve.files.folders import why_not_path
from mlpserve.files.kinds import Kind, kind_of
from mlpserve.files.names import text
from mlpserve_client.pictures import MOST_BYTES
from mlpserve_client.prepare import Prepared
from mlpserve_client.scoring.errors import BadRow, ScoringError
from mlpserve_client.scoring.files import File, opened
from mlpserve_client.scoring.inputs.listing import Listing, listed
from mlpserve_client.scoring.inputs.rows import CHUNK_BYTES, Chunk, Collector, Decoded, Form, Kept
from mlpserve_client.scoring.inputs.unpacking import LARGEST_READ, unpacking
from mlpserve_client.scoring.inputs.values import picture
from mlpserve_client.scoring.remote import MissingError, is_remote
from mlpserve_client.scoring.states import State, look

UNLABELLED = ("", ".")  # a picture beside its folder's others has no folder to be named by


class FolderInput:
    """Every picture below a folder, in the order of their paths.

    Args:
        path: the folder.
        form: what images must become.
        listing: what lies in it, where that is known already.

    Raises:
        ScoringError: there are none.
    """

    named = True
    kept: Kept = ()

    def __init__(self, path: str, form: Form, listing: Listing | None = None) -> None:
        self.path = path
        self._form = form
        states = (listing or listed(path)).pictures
        self._names = list(states)
        if not self._names:
            raise ScoringError(f"{path}: no pictures in this folder")
        _refuse_columns(path, form)
        self.rows = len(self._names)
        marks = hashlib.sha256()
        for name, state in states.items():
            marks.update(f"{name}\0{state.size}\0{state.mark}\n".encode(errors="surrogateescape"))
        self.fingerprint = marks.hexdigest()
        self._states = array("q", map(hash, states.values()))  # whole ones of a million files take 300 MB

    def close(self) -> None:
        """Nothing is open between two chunks."""

    def changed(self, start: int = 0, stop: int | None = None) -> str:
        """What has changed since it was opened, in words; "" for nothing."""
        whole = stop is None
        whole_again = whole or is_remote(self.path)
        states = listed(self.path).pictures if whole_again else self._look(self._names[start:stop])
        for words, found in (
            ("is gone", [name for name in self._names[start:stop] if name not in states]),
            ("is new", sorted(states.keys() - set(self._names)) if whole else []),
            (
                "was written again",
                [
                    name
                    for name, was in zip(self._names[start:stop], self._states[start:stop], strict=True)
                    if name in states and hash(states[name]) != was
                ],
            ),
        ):
            if found:
                return f"{found[0]} {words}" + (f", and {len(found) - 1:,} more" if len(found) > 1 else "")
        return ""

    def _look(self, names: Sequence[str]) -> dict[str, State]:
        states = {}
        for name in names:
            with contextlib.suppress(MissingError):
                states[name] = look(self._path(name))
        return states

    def _path(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    def read(self, start: int, stop: int, size: int) -> Iterator[Chunk]:
        """Rows start to stop in chunks of at most `size`; the files are opened when a chunk is decoded."""
        for first in range(start, stop, size):
            names = self._names[first : min(first + size, stop)]
            contents = [lambda name=name: self._content(name) for name in names]
            yield _chunk(first, names, contents, self._form)

    def _content(self, name: str) -> bytes:
        try:
            with opened(self._path(name)) as file:
                return file.read(MOST_BYTES + 1)  # one more than `picture` takes
        except Exception as error:  # every file system's library has errors of its own
            raise BadRow("unreadable file", f"{text(name)}: {error}") from error


class TarInput:
    """Every picture in a tar archive, in its order.

    Args:
        file: the archive.
        form: what images must become.

    Raises:
        ScoringError: it is no archive, or has no pictures.
    """

    named = True
    kept: Kept = ()

    def __init__(self, file: File, form: Form) -> None:
        self.path, self.fingerprint = file.path, file.fingerprint
        self._file = file
        self._form = form
        _refuse_columns(file.path, form)
        self._names = [member.name for member, _ in self._members(read=False)]
        if not self._names:
            raise ScoringError(f"{file.path}: no pictures in this archive")
        self.rows = len(self._names)

    def changed(self, start: int = 0, stop: int | None = None) -> str:
        """What has changed since it was opened, in words; "" for nothing."""
        return self._file.changed()

    def close(self) -> None:
        """Nothing is open between two readings."""

    def _members(self, *, read: bool, start: int = 0) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
        """Pictures from number `start` on, with their content where it is wanted and not too large."""
        try:
            with self._file.open() as raw:
                stream = unpacking(self.path, raw, self._file.size)
                archive = tarfile.TarFile(fileobj=stream)  # type: ignore[arg-type]
                number = -1
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # a kilobyte each, and nobody looks back
                    if not member.isfile() or why_not_path(member.name.removeprefix("./")) is not None:
                        continue
                    if kind_of(member.name, lambda: b"") is not Kind.PICTURE:
                        continue
                    number += 1
                    if number < start:
                        continue
                    yield member, _content(archive, member) if read else None
                # What looks like an end may be a damaged header: behind a real one there are only zeros.
                if len(stream.last) < tarfile.BLOCKSIZE or stream.last.strip(b"\0"):
                    raise ScoringError(f"{self.path}: damaged or cut off after {number + 1} pictures")
        except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error, RecursionError) as error:
            raise ScoringError(f"{self.path}: not a readable tar archive ({error})") from error

    def read(self, start: int, stop: int, size: int) -> Iterator[Chunk]:
        """Rows start to stop in chunks of at most `size`."""
        names: list[str] = []
        contents: list[Callable[[], bytes]] = []
        first, held = start, 0
        members = self._members(read=True, start=start)
        for number, (member, content) in enumerate(members, start):
            names.append(member.name)
            contents.append(lambda content=content, size=member.size: _kept(content, size))  # type: ignore[misc]
            held += len(content or b"")
            if len(names) == size or held >= CHUNK_BYTES or number + 1 == stop:
                yield _chunk(first, names, contents, self._form)
                first, held, names, contents = number + 1, 0, [], []
            if number + 1 == stop:
                return
        if first < stop:
            raise ScoringError(f"{self.path}: changed while it was read; it had {self.rows} pictures")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    """A member's content; None if it is larger than a picture may be, which a sparse one of a few bytes can be."""
    if member.size > MOST_BYTES:
        return None
    content = bytearray()
    if (stream := archive.extractfile(member)) is not None:
        while part := stream.read(LARGEST_READ):
            content += part
    return bytes(content)


def _kept(content: bytes | None, size: int) -> bytes:
    if content is None:
        raise BadRow("too large", f"{size:,} bytes; a picture file has at most {MOST_BYTES >> 20} MB")
    return content


def _refuse_columns(path: str, form: Form) -> None:
    if form.label_column or form.slice_column:
        raise ScoringError(f"{path}: pictures have no columns; labels for them come from --labels FILE or folders")
    if form.keep:
        raise ScoringError(f"{path}: pictures have no columns to keep; --keep is for Parquet files")


def _chunk(start: int, names: Sequence[str], contents: Sequence[Callable[[], bytes]], form: Form) -> Chunk:
    def decode_one(name: str, content: Callable[[], bytes]) -> Callable[[], Prepared]:
        def decode() -> Prepared:
            try:
                return picture(content(), form)
            except BadRow as error:
                raise BadRow(error.reason, f"{text(name)}: {error}") from error

        return decode

    def decode() -> Decoded:
        collector = Collector(form.pixels)
        for offset, (name, content) in enumerate(zip(names, contents, strict=True)):
            collector.add(offset, decode_one(name, content))
        return collector.decoded()

    targets = None
    if form.folders_are_labels:
        folders = [name.rsplit("/", 2)[-2] if "/" in name else "" for name in names]
        targets = [text(folder) if folder not in UNLABELLED else None for folder in folders]
    return Chunk(start, len(names), decode, names=[text(name) for name in names], targets=targets)
