"""Small files that become huge when they are unpacked or decoded, and pictures that start other programs."""

import functools
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIZE = 200 << 20  # bytes that each bomb becomes
SIDE = 7200  # pixels: a little more than are decoded
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"


def ghostscript(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment whose `gs` notes that it was called, and where it does."""
    folder.mkdir()
    called = folder / "called"
    (folder / "gs").write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    (folder / "gs").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}, called


def _gzip_of(start: bytes, end: bytes = b"") -> bytes:
    """A gzip file of a start, SIZE zeros and an end, as members one after another."""
    return gzip.compress(start) + gzip.compress(bytes(1 << 20)) * (SIZE >> 20) + gzip.compress(end)


def tar_of_a_huge_picture() -> bytes:
    """A .tar.gz whose one picture is SIZE zeros."""
    entry = tarfile.TarInfo("x.png")
    entry.size = SIZE
    return _gzip_of(entry.tobuf(), end=bytes(10_240))


def tar_of_a_huge_note() -> bytes:
    """A .tar.gz with SIZE zeros that are no picture, and a picture behind them."""
    entry = tarfile.TarInfo("x.txt")
    entry.size = SIZE
    return _gzip_of(entry.tobuf(), end=bytes(10_240))


def tar_of_a_huge_header() -> bytes:
    """A .tar.gz with a PAX header of SIZE zeros, which tarfile reads whole."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, SIZE
    return _gzip_of(entry.tobuf(), end=bytes(10_240))


def sparse_tar() -> bytes:
    """A .tar whose one picture is a hole of SIZE bytes, in the format of PAX."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("GNUSparseFile.0/x.png")
        entry.pax_headers = {
            **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
            **{"GNU.sparse.name": "x.png", "GNU.sparse.realsize": str(SIZE)},
        }
        content = f"1\n{SIZE}\n0\n".encode().ljust(512, b"\0")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def xz_with_a_huge_window(content: bytes) -> bytes:
    """An .xz whose header asks for a gigabyte of memory."""
    filters = [
        {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3, "nice_len": 32}
    ]
    return lzma.compress(content, filters=filters)


def labels_gz() -> bytes:
    """A gzipped IDX file that says it has ten labels, and holds SIZE."""
    return _gzip_of(struct.pack(">II", 2049, 10))


def npz_with_a_huge_header() -> bytes:
    """An .npz whose array has a header of SIZE spaces."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", SIZE))
        for _ in range(SIZE >> 20):
            member.write(b" " * (1 << 20))
    return buffer.getvalue()


def npz_of_zeros() -> bytes:
    """An .npz of images and labels, all zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, shape in (("images", (SIZE // 784, 28, 28)), ("labels", (SIZE // 784,))):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(header.getvalue())
                left = int(np.prod(shape))
                while left:
                    member.write(bytes(min(left, 1 << 20)))
                    left -= min(left, 1 << 20)
    return buffer.getvalue()


def npy_that_claims(shape: tuple[int, ...]) -> bytes:
    """An .npy of a header alone."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def parquet(path: Path, kind: str) -> Path:
    """A Parquet file of some kilobytes: "pages" of zeros, "references" to one value, "runs" of one number."""
    if kind == "runs":
        numbers = pa.array(np.zeros(SIZE // 4, np.uint8))
        column = pa.ListArray.from_arrays(pa.array([0, len(numbers)], pa.int32()), numbers)
    else:
        value = bytes(900_000)
        indices = pa.array(np.zeros(SIZE * (1 if kind == "pages" else 8) // len(value), np.int32))
        column = pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.binary()))
    table = pa.table({"image": column, "label": [n % 2 for n in range(len(column))]})
    # Without Arrow's own schema, by which references would stay references when they are read.
    options = {"store_schema": False, "dictionary_pagesize_limit": 2 << 20}
    pq.write_table(table, path, compression="zstd", use_dictionary=kind != "pages", **options)
    return path


@functools.cache
def pictures() -> dict[str, bytes]:
    """Encoded pictures that are larger than is decoded, by a name that says how."""
    return {
        "png": _picture(Image.new("RGBA", (SIDE, SIDE)), "PNG", compress_level=1),
        "png beyond Pillow's bound": _picture(Image.new("1", (20_000, 20_000)), "PNG"),
        "gif": _picture(Image.new("P", (SIDE, SIDE)), "GIF"),
        "webp": _picture(Image.new("RGB", (SIDE, SIDE)), "WEBP", method=0),
        "tiff": _picture(Image.new("L", (SIDE, SIDE)), "TIFF", compression="tiff_lzw"),
        "tiff with a huge tile": _tile(),
        "text": _text(),
    }


def _picture(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _tile() -> bytes:
    """A TIFF of 28 x 28 pixels in one tile of 10,000 x 10,000."""
    side, content = 10_000, zlib.compress(bytes(10_000 * 10_000), 1)
    tags = {256: 28, 257: 28, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 325: len(content)}
    tags[324] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


def _text() -> bytes:
    """A PNG with a note that unpacks to SIZE."""
    small = _picture(Image.new("L", (28, 28)), "PNG")
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(SIZE >> 20)), packer.flush()])
    body = b"zTXt" + b"note\0\0" + packed
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return small[:33] + chunk + small[33:]
