"""Every reader of pictures and arrays on thousands of damaged files: each is read, or refused in words.

Tiny files, in this process; tests/guarantees has more and larger ones.
"""

import io
import random
import struct
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.mnist import mnist_images
from tests.support.mutate import mutated
from tests.support.pictures import png

from mlpserve.files import orientation, pictures
from mlpserve_client.errors import InvalidInputError
from mlpserve_client.prepare import from_bytes
from mlpserve_client.scoring import ScoringError
from mlpserve_client.scoring.inputs import Form, open_input
from mlpserve_client.scoring.inputs.labels import read_labels
from mlpserve_trainer.data import arrays, tables
from mlpserve_trainer.data.pictures import Reader
from mlpserve_trainer.errors import DataError

PICTURES, EXIFS, FILES, TABLES = 12_000, 6_000, 4_000, 600  # inputs; above 20,000 in all
SMALL = mnist_images()[:4, 4:24, 4:24]  # [4, 20, 20]

# Pillow warns of some of what it then reads or refuses.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*decompression bomb.*"),
]


def _samples() -> dict[str, bytes]:
    """A small picture in every format that Pillow writes, those included that are never read."""
    Image.init()
    grey, colour = Image.fromarray(SMALL[0]), Image.fromarray(SMALL[0]).convert("RGB")
    samples = {}
    for kind in sorted({*Image.SAVE} - {"PDF", "WMF", "HDF5", "GRIB", "BUFR", "FITS", "MPO", "IM"}):
        for image in (colour, grey, grey.convert("P"), grey.convert("1")):
            file = io.BytesIO()
            try:
                image.save(file, kind)
            except (OSError, ValueError, KeyError):  # a mode that the format does not have
                continue
            samples[kind] = file.getvalue()
            break
    exif = Image.Exif()
    exif[orientation.TAG] = 6
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        if kind in samples:
            file = io.BytesIO()
            colour.save(file, kind, exif=exif)
            samples[f"{kind} turned"] = file.getvalue()
    for name, options in {
        "GIF moving": {"format": "GIF", "save_all": True, "append_images": [grey.rotate(90)]},
        "TIFF packed": {"format": "TIFF", "compression": "tiff_lzw"},
        "TIFF pages": {"format": "TIFF", "save_all": True, "append_images": [grey]},
    }.items():
        file = io.BytesIO()
        grey.save(file, **options)  # type: ignore[arg-type]
        samples[name] = file.getvalue()
    deep = io.BytesIO()
    Image.fromarray(SMALL[0].astype(np.uint16) * 257).save(deep, "PNG")
    return samples | {"PNG deep": deep.getvalue()}


def test_pictures() -> None:
    random_ = random.Random(23)
    samples = _samples()
    assert {"AVIF", "BMP", "DDS", "JPEG2000", "PNG", "QOI", "TGA", "WEBP"} <= samples.keys()
    outcomes: Counter[str] = Counter()
    reader = Reader(None)
    for number in range(PICTURES):
        name = random_.choice([*samples])
        content = mutated(random_, samples[name])
        try:
            ours = number % 3
            image = from_bytes(content, 28, 28, raw=ours == 1) if ours else reader.read(content, "x")
            assert image.dtype == np.uint8
            outcomes["read"] += 1
        except (InvalidInputError, DataError) as error:
            assert str(error).isprintable() or "\n" in str(error), error
            outcomes["refused"] += 1
    assert outcomes["read"] > PICTURES // 20
    assert outcomes["refused"] > PICTURES // 4


def _exif_block(random_: random.Random) -> tuple[bytes, int | None]:
    """An EXIF block with odd tags around the orientation; and what it says, where it is in order itself."""
    order = random_.choice("<>")
    value = random_.randint(0, 9)
    kind = random_.choice((3, 3, 3, 4, 1, 2, 5, 7, 12))
    odd = [
        struct.pack(
            f"{order}HHI", random_.choice((0x11A, 0x100, 0x8769, 0x8825, 0x14A, 0x927C)), random_.randrange(20), 1
        )
        + random_.randbytes(4)
        for _ in range(random_.randint(0, 4))
    ]
    width = {1: "B3x", 3: "H2x", 4: "I"}.get(kind, "I")
    entry = struct.pack(f"{order}HHI{width}", orientation.TAG, kind, 1, value)
    entries = [*odd, entry]
    random_.shuffle(entries)
    head = b"II*\0" if order == "<" else b"MM\0*"
    block = head + struct.pack(f"{order}IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    if random_.random() < 0.3:
        return mutated(random_, block), None
    return block, value if kind in (1, 3, 4) and 1 <= value <= 8 else 1


def test_exif_blocks() -> None:
    """Half of such blocks used to end in a traceback, in tags that nobody asks for."""
    random_ = random.Random(29)
    image = Image.fromarray(SMALL[0, :, :12])
    said = Counter[bool]()
    for number in range(EXIFS):
        block, expected = _exif_block(random_)
        found = orientation.of_exif(b"Exif\0\0" + block)
        assert 1 <= found <= 8
        assert expected is None or found == expected
        said[found > 1] += 1
        if number % 4 == 0:
            file = io.BytesIO()
            image.save(file, "JPEG", exif=b"Exif\0\0" + block)
            turned = pictures.read(file.getvalue()).grey.size
            assert turned == (image.size[::-1] if found >= 5 else image.size)
    assert said[True] > EXIFS // 4


@pytest.mark.parametrize("number", range(1, 9))
def test_turned_pictures_with_an_odd_tag(number: int) -> None:
    """The smallest of them: XResolution stored as a BYTE beside the orientation."""
    entries = [struct.pack("<HHIB3x", 0x11A, 1, 1, 72), struct.pack("<HHIHH", orientation.TAG, 3, 1, number, 0)]
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(sorted(entries)) + bytes(4)
    image = Image.fromarray(np.kron(SMALL[0, 2:18, 2:18], np.ones((8, 8), np.uint8)))
    file = io.BytesIO()
    image.save(file, "JPEG", exif=block, quality=95)
    grey = np.asarray(pictures.read(file.getvalue()).grey).astype(int)
    turns = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.transpose(a), 2),
        8: np.rot90,
    }
    assert np.abs(grey - turns[number](np.asarray(image))).mean() < 4  # type: ignore[no-untyped-call]


def _array_samples() -> dict[str, bytes]:
    files: dict[str, io.BytesIO] = {name: io.BytesIO() for name in ("x.npy", "x.npz", "packed.npz", "f.npy")}
    np.save(files["x.npy"], SMALL)
    np.save(files["f.npy"], np.asfortranarray(SMALL))
    np.savez(files["x.npz"], images=SMALL, labels=np.arange(4))
    np.savez_compressed(files["packed.npz"], x_train=SMALL, y_train=np.arange(4))
    idx = b"\0\0\x08\x03" + struct.pack(">III", 4, 20, 20) + SMALL.tobytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(2):
            entry = tarfile.TarInfo(f"{number}.png")
            content = png(SMALL[number])
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return {name: file.getvalue() for name, file in files.items()} | {"x.idx": idx, "x.tar": tar.getvalue()}


def _refused_or_read(read: Callable[[], object], outcomes: Counter[str]) -> None:
    try:
        read()
        outcomes["read"] += 1
    except (ScoringError, DataError) as error:
        assert str(error)
        outcomes["refused"] += 1


def _scored(path: Path) -> None:
    source = open_input(str(path), Form(20, 20, raw=True))
    try:
        for chunk in source.read(0, min(source.rows, 50), 8):
            chunk.decode()
    finally:
        source.close()


def test_arrays_and_archives(tmp_path: Path) -> None:
    random_ = random.Random(31)
    samples = _array_samples()
    labels = {"y.npy": io.BytesIO(), "z.npy": io.BytesIO()}
    np.save(labels["y.npy"], np.arange(4.0))
    np.save(labels["z.npy"], np.array(["a", "b", "c", "d"]))
    texts = {name: file.getvalue() for name, file in labels.items()}
    texts |= {"y.idx": b"\0\0\x08\x01\0\0\0\x04" + bytes(4), "y.csv": b"label\n1\n2\n3\n4\n"}
    outcomes: Counter[str] = Counter()
    for number in range(FILES):
        if number % 4 == 3:
            name = random_.choice([*texts])
            path = tmp_path / name
            path.write_bytes(mutated(random_, texts[name]))
            _refused_or_read(lambda: read_labels(path, 4), outcomes)  # noqa: B023
            continue
        name = random_.choice([*samples])
        path = tmp_path / name
        path.write_bytes(mutated(random_, samples[name]))
        if number % 4 == 2 and path.suffix == ".npz":
            _refused_or_read(lambda: arrays.read(path, [], None), outcomes)  # noqa: B023
        else:
            _refused_or_read(lambda: _scored(path), outcomes)  # noqa: B023
    assert outcomes["read"] > FILES // 20
    assert outcomes["refused"] > FILES // 4


def test_tables(tmp_path: Path) -> None:
    random_ = random.Random(37)
    storage = pa.FixedSizeListArray.from_arrays(SMALL.ravel(), 400)
    columns = {
        "bytes": [image.tobytes() for image in SMALL],
        "pictures": [png(image) for image in SMALL],
        "numbers": [image.tolist() for image in SMALL],
        "tensors": pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.uint8(), (20, 20), permutation=[1, 0]), storage
        ),
    }
    samples = []
    for column in columns.values():
        file = io.BytesIO()
        pq.write_table(pa.table({"image": column, "label": [0, 1, 2, 3]}), file)
        samples.append(file.getvalue())
    outcomes: Counter[str] = Counter()
    path = tmp_path / "x.parquet"
    for number in range(TABLES):
        path.write_bytes(mutated(random_, random_.choice(samples)))
        if number % 3:
            _refused_or_read(lambda: _scored(path), outcomes)
        else:
            _refused_or_read(lambda: tables.read(path, [path], (20, 20)), outcomes)
    assert outcomes["refused"] > TABLES // 4
