"""What a file holds, by its ending, and by its first bytes where the ending is unknown: one table for all readers."""

import enum
import re
import zlib
from collections.abc import Callable

HEAD = 64  # bytes by which a file is told

# Of pictures, those included that nobody can read here (HEIC, JPEG XL): they are counted as pictures that are bad.
PICTURE_ENDINGS = (
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pgm", ".png", ".apng", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
ARRAY_ENDINGS = (".npy", ".npz")
TABLE_ENDINGS = (".parquet",)
ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# Whose first bytes nobody needs to look at.
TEXT_ENDINGS = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".log", ".py"),
    *(".ini", ".toml", ".cls", ".lock", ".unfinished"),
)
PICTURE_SIGNATURES = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xffO\xffQ", b"\0\0\0\x0cJXL "),
)
ENCODED_SIGNATURES = (*PICTURE_SIGNATURES, b"RIFF")  # of what is no raw pixels, though as long as an image
BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
NETPBM = re.compile(rb"P[1-6][ \t\r\n#]")
IDX_IMAGES, IDX_LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"  # unsigned bytes in three dimensions, in one
GZIP = b"\x1f\x8b"


class Kind(enum.Enum):
    """What a file holds."""

    PICTURE = "a picture"
    ARRAYS = "NumPy arrays"
    TABLE = "a Parquet file"
    ARCHIVE = "an archive"
    IDX_IMAGES = "an IDX file of images"
    IDX_LABELS = "an IDX file of labels"
    OTHER = "neither a picture nor an array"


_BY_ENDING = {
    **dict.fromkeys(PICTURE_ENDINGS, Kind.PICTURE),
    **dict.fromkeys(ARRAY_ENDINGS, Kind.ARRAYS),
    **dict.fromkeys(TABLE_ENDINGS, Kind.TABLE),
    **dict.fromkeys(ARCHIVE_ENDINGS, Kind.ARCHIVE),
    **dict.fromkeys(TEXT_ENDINGS, Kind.OTHER),
}


def kind_of(name: str, head: Callable[[], bytes]) -> Kind:
    """What a file holds.

    Args:
        name: of the file; the case of its ending does not matter.
        head: gives its first `HEAD` bytes; called where the ending says nothing.
    """
    lower = name.lower().rsplit("/", 1)[-1]
    parts = lower.split(".")
    for count in (2, 1):
        if len(parts) > count and (known := _BY_ENDING.get("." + ".".join(parts[-count:]))):
            return known
    return kind_of_content(head())


def head_of(path: str) -> bytes:
    """A file's first `HEAD` bytes; none where it cannot be read, which whoever reads it says."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(HEAD)
    except OSError:
        return b""


def kind_of_content(head: bytes) -> Kind:
    """What a file that begins with these bytes holds."""
    if head.startswith(GZIP):
        head = _unpacked(head)
    if head.startswith(IDX_IMAGES):
        return Kind.IDX_IMAGES
    if head.startswith(IDX_LABELS):
        return Kind.IDX_LABELS
    if head.startswith(b"\x93NUMPY"):
        return Kind.ARRAYS
    return Kind.PICTURE if is_picture(head) else Kind.OTHER


def is_picture(head: bytes) -> bool:
    """Whether bytes begin as the picture formats do."""
    return (
        head.startswith(PICTURE_SIGNATURES)
        or (head[4:8] == b"ftyp" and head[8:12] in BRANDS)
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and head[6:10] == b"\0\0\0\0")
        or NETPBM.match(head) is not None
    )


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 16)
    except zlib.error:
        return b""
