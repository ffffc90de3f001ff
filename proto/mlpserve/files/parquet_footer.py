"""What a Parquet file's footer says of its columns, in the compact protocol of Thrift.

pyarrow knows it too, but ends the process, by an exception of C++ that nobody catches, when what a damaged footer says
of a column does not fit together.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

MAGIC = b"PAR1"
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


@dataclass
class Column:
    """A column in one row group.

    Attributes:
        path: its names, from the outermost one.
        values: how many, nulls included; of lists, all of their items.
        unpacked, packed: bytes of its pages.
        start: where its first page begins, from the file's front.
    """

    path: tuple[str, ...] = ()
    values: int = 0
    unpacked: int = 0
    packed: int = 0
    start: int = 0


def row_groups(stream: IO[bytes]) -> list[tuple[int, list[Column]]]:
    """Rows and columns of each row group.

    Raises:
        ValueError: it is no footer.
    """
    try:
        stream.seek(-8, os.SEEK_END)
        end = stream.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != MAGIC:
            raise ValueError("no Parquet file")
        stream.seek(-8 - length, os.SEEK_END)
        reader = _Compact(stream.read(length))
        groups: list[tuple[int, list[Column]]] = []
        for field, kind in reader.fields():
            if (field, kind) == (4, LIST):
                groups = [_row_group(reader) for _ in reader.items()]
            else:
                reader.skip(kind)
    except (IndexError, OSError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError("its footer is damaged") from error
    return groups


def first_numbers(content: bytes, count: int) -> list[int]:
    """The numbers that a struct begins with.

    Raises:
        IndexError: it ends early.
        ValueError: it begins with something else.
    """
    reader = _Compact(content)
    numbers = []
    for expected, (field, kind) in zip(range(1, count + 1), reader.fields(), strict=False):
        if field != expected or not BYTE < kind < DOUBLE:
            raise ValueError("its header is damaged")
        numbers.append(reader.number())
    return numbers


def _row_group(reader: "_Compact") -> tuple[int, list[Column]]:
    rows, columns = 0, []
    for field, kind in reader.fields():
        if (field, kind) == (1, LIST):
            columns = [_chunk(reader) for _ in reader.items()]
        elif field == 3 and kind != STRUCT:
            rows = reader.number()
        else:
            reader.skip(kind)
    return rows, columns


def _chunk(reader: "_Compact") -> Column:
    column = Column()
    for field, kind in reader.fields():
        if (field, kind) == (3, STRUCT):
            column = _column(reader)
        else:
            reader.skip(kind)
    if not column.path:  # it is encrypted, or nothing is said of it
        raise ValueError("its footer does not say what a column is")
    return column


def _column(reader: "_Compact") -> Column:
    column, starts = Column(), []
    numbers = {5: "values", 6: "unpacked", 7: "packed"}
    for field, kind in reader.fields():
        if (field, kind) == (3, LIST):
            column.path = tuple(reader.binary().decode() for _ in reader.items())
        elif field in numbers and BYTE < kind < DOUBLE:
            setattr(column, numbers[field], reader.number())
        elif field in (9, 11) and BYTE < kind < DOUBLE:  # its first data page, its dictionary
            starts.append(reader.number())
        else:
            reader.skip(kind)
    if not column.path:
        raise ValueError("its footer is damaged")
    column.start = min((start for start in starts if start > 0), default=0)
    return column


class _Compact:
    """Reads one value after another.

    Raises:
        IndexError: it ends early.
        ValueError: it is damaged.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._content[self._position]
            self._position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("its footer is damaged")

    def number(self) -> int:
        """An integer."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        """Bytes, or text."""
        length = self._varint()
        self._pass(length)
        return self._content[self._position - length : self._position]

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; whoever asks reads or skips the value."""
        field = 0
        while True:
            head = self._content[self._position]
            self._position += 1
            if head == 0:
                return
            field = field + (head >> 4) if head >> 4 else self.number()
            yield field, head & 0x0F

    def items(self) -> Iterator[int]:
        """The type of each item of a list."""
        head = self._content[self._position]
        self._position += 1
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(count):
            yield head & 0x0F

    def entries(self) -> Iterator[int]:
        """The type of each key of a map and of its value, one after the other."""
        count = self._varint()
        if count:
            kinds = self._content[self._position]
            self._position += 1
            for _ in range(count):
                yield kinds >> 4
                yield kinds & 0x0F

    def skip(self, kind: int, *, item: bool = False) -> None:
        """Pass over a value; a boolean takes a byte where it is an item."""
        if kind in (TRUE, FALSE):
            self._pass(int(item))
        elif kind == BYTE:
            self._pass(1)
        elif kind < DOUBLE:
            self._varint()
        elif kind == DOUBLE:
            self._pass(8)
        elif kind == BINARY:
            self.binary()
        elif kind in (LIST, SET):
            for inner in self.items():
                self.skip(inner, item=True)
        elif kind == MAP:
            for inner in self.entries():
                self.skip(inner, item=True)
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        else:
            raise ValueError("its footer is damaged")

    def _pass(self, count: int) -> None:
        self._position += count
        if self._position > len(self._content):
            raise IndexError
