"""How much memory rows of a Parquet file take, by what the file says of itself, before they are read.

Arrow makes a value of every reference into a column's dictionary, and unpacks a page whole: some kilobytes can become
gigabytes in either way.
"""

from collections.abc import Sequence
from typing import IO, Any

from mlpserve.files.parquet_footer import Column, first_numbers, row_groups
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.unpacking import UNPACKED_BASE, UNPACKED_RATIO, most_unpacked

BATCH_BYTES = 128 << 20  # of what is read at a time
LONGEST_START = 12  # bytes of a page header's first two fields
DICTIONARY_PAGE = 2
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}


class Footprint:
    """The columns of a file that are read.

    Args:
        path: names the file in errors.
        schema: of pyarrow, of the file.
        stream: the file.
        columns: their names.

    Raises:
        ScoringError: a column of a row group becomes far larger than it is.
        ValueError: the footer is damaged.
    """

    def __init__(self, path: str, schema: Any, stream: IO[bytes], columns: Sequence[str]) -> None:
        self._stream = stream
        self._groups: list[tuple[int, list[tuple[Column, Any]]]] = []
        leaves = [schema.column(number) for number in range(len(schema))]
        for rows, chunks in row_groups(stream):
            if len(chunks) != len(leaves):
                raise ValueError("its footer is damaged")
            pairs = zip(chunks, leaves, strict=True)
            read = [(chunk, leaf) for chunk, leaf in pairs if {chunk.path[0], ".".join(chunk.path)} & {*columns}]
            self._groups.append((max(rows, 1), read))
            for chunk, leaf in read:
                unpacked = chunk.unpacked
                if leaf.max_repetition_level:  # lists, whose numbers may be stored as runs
                    unpacked = max(unpacked, chunk.values * _width(leaf))
                if unpacked > most_unpacked(chunk.packed):
                    raise ScoringError(
                        f"{path}: column {chunk.path[0]!r} becomes {unpacked >> 20:,} MB out of {chunk.packed:,} bytes "
                        f"in one row group; at most {UNPACKED_BASE >> 20} MB and {UNPACKED_RATIO} times its size are "
                        "unpacked. Write it with smaller row groups, if that is meant"
                    )

    def rows_at_a_time(self, groups: Sequence[int]) -> int:
        """Rows of which at most `BATCH_BYTES` are made, whatever refers to the largest value of a dictionary."""
        most = 1
        for group in groups:
            rows, read = self._groups[group]
            for chunk, leaf in read:
                if leaf.max_repetition_level:
                    each = chunk.values * _width(leaf) // rows
                elif leaf.physical_type == "BYTE_ARRAY":
                    each = max(chunk.unpacked // rows, self._dictionary_bytes(chunk))
                else:
                    each = _width(leaf)
                most = max(most, each)
        return max(1, BATCH_BYTES // most)

    def _dictionary_bytes(self, chunk: Column) -> int:
        """Size of a column's dictionary, unpacked, out of the header of its first page; 0 if it has none.

        The header's first fields are the page's type, its size and its packed size.
        """
        self._stream.seek(chunk.start)
        try:
            kind, size = first_numbers(self._stream.read(LONGEST_START), 2)
        except (IndexError, ValueError):
            return chunk.unpacked
        return size if kind == DICTIONARY_PAGE else 0


def _width(leaf: Any) -> int:
    """Bytes of one value; of text and bytes, of its length alone."""
    return int(leaf.length) if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else WIDTHS[leaf.physical_type]
