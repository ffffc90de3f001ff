"""How much memory rows of a Parquet file take, by what the file says of itself, before they are read.

Arrow makes a value of every reference into a column's dictionary, and unpacks a page whole: some kilobytes can become
gigabytes in either way.
"""

from collections.abc import Iterator, Sequence
from typing import IO, Any

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.unpacking import UNPACKED_BASE, UNPACKED_RATIO, most_unpacked

BATCH_BYTES = 128 << 20  # of what is read at a time
LONGEST_START = 18  # bytes of a page header's first three fields
DICTIONARY_PAGE = 2
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}


def refuse_bombs(path: str, metadata: Any, columns: Sequence[str]) -> None:
    """Refuse a file of which a row group's column becomes far larger than it is.

    Args:
        path: names it in errors.
        metadata: of the file.
        columns: that are read.

    Raises:
        ScoringError: one does.
    """
    for group in range(metadata.num_row_groups):
        for name, column, schema in _leaves(metadata, group, columns):
            packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
            if schema.max_repetition_level:  # lists, whose numbers may be stored as runs
                unpacked = max(unpacked, column.num_values * _width(schema))
            if unpacked > most_unpacked(packed):
                raise ScoringError(
                    f"{path}: column {name!r} becomes {unpacked >> 20:,} MB out of {packed:,} bytes in one row group; "
                    f"at most {UNPACKED_BASE >> 20} MB and {UNPACKED_RATIO} times its size are unpacked. Write it with "
                    "smaller row groups, if that is meant"
                )


def rows_at_a_time(metadata: Any, groups: Sequence[int], columns: Sequence[str], stream: IO[bytes]) -> int:
    """Rows of which at most `BATCH_BYTES` are made, whatever refers to the largest value of a dictionary."""
    most = 1
    for group in groups:
        rows = max(metadata.row_group(group).num_rows, 1)
        for _, column, schema in _leaves(metadata, group, columns):
            if schema.max_repetition_level:
                each = column.num_values * _width(schema) // rows
            elif column.physical_type == "BYTE_ARRAY":
                each = max(column.total_uncompressed_size // rows, _dictionary_bytes(column, stream))
            else:
                each = _width(schema)
            most = max(most, each)
    return max(1, BATCH_BYTES // most)


def _leaves(metadata: Any, group: int, columns: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Name, metadata and schema of each stored column that belongs to one of the table's."""
    row_group = metadata.row_group(group)
    for number in range(metadata.num_columns):
        column = row_group.column(number)
        for name in columns:
            if column.path_in_schema == name or column.path_in_schema.startswith(f"{name}."):
                yield name, column, metadata.schema.column(number)


def _width(schema: Any) -> int:
    """Bytes of one value; of text and bytes, of its length alone."""
    return int(schema.length) if schema.physical_type == "FIXED_LEN_BYTE_ARRAY" else WIDTHS[schema.physical_type]


def _dictionary_bytes(column: Any, stream: IO[bytes]) -> int:
    """Size of a column's dictionary, unpacked, out of the header of its first page; 0 if it has none.

    The header is a struct of Thrift's compact protocol: its first fields are the page's type, its size and its packed
    size, each a number in the zigzag form behind one byte.
    """
    offsets = [offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset]
    if not offsets:
        return 0
    stream.seek(min(offsets))
    start = iter(stream.read(LONGEST_START))
    values = []
    for _ in range(2):
        if next(start, None) != 0x15:  # the next field, an int32
            return int(column.total_uncompressed_size)
        value = shift = 0
        for byte in start:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        values.append((value >> 1) ^ -(value & 1))
    kind, size = values
    return size if kind == DICTIONARY_PAGE else 0
