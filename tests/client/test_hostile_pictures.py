"""Pictures that would start other programs, and small files that would fill the memory: refused before they do."""

import ast
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from support.mnist import mnist_images
from support.processes import BIN, ServerProcess, run
from tests.support import bombs
from tests.support.peaks import peak
from tests.support.pictures import photograph, png

from mlpserve.files import pictures
from mlpserve.files.parquet_footer import row_groups
from mlpserve_client import cli
from mlpserve_client.pictures import NotAPictureError, TooLargeError
from mlpserve_client.prepare import from_bytes, read_image, to_grey
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import File
from mlpserve_client.scoring.inputs import Form
from mlpserve_client.scoring.inputs.tables import TableInput

EXPECTED = pictures.EXPECTED
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def one_server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Decoding does not depend on the transport."""
    with ServerProcess(tmp_path_factory.mktemp("server"), store) as process:
        yield process


# --- formats -------------------------------------------------------------------------------------------------------


def test_pillow_alone_starts_ghostscript(tmp_path: Path) -> None:
    """What the tests below rely on: the fake is found, and an EPS file would call it."""
    env, called = bombs.ghostscript(tmp_path / "bin")
    (tmp_path / "x.png").write_bytes(bombs.EPS)
    script = "import sys; from PIL import Image; Image.open(sys.argv[1]).load()"
    peak(sys.executable, "-c", script, tmp_path / "x.png", env=env)
    assert called.exists()


def test_no_picture_reaches_ghostscript(one_server: ServerProcess, tmp_path: Path) -> None:
    env, called = bombs.ghostscript(tmp_path / "bin")
    (tmp_path / "in").mkdir()
    for name in ("x.png", "y.jpg"):
        (tmp_path / "in" / name).write_bytes(bombs.EPS)
    (tmp_path / "in/z.png").write_bytes(png(mnist_images()[0]))
    predicted = run("mlpserve", "--server", one_server.address, "predict", tmp_path / "in/x.png", env=env)
    assert predicted.returncode == 4
    assert f"x.png: not a readable image (no picture); {EXPECTED}" in predicted.stderr
    scored = run(
        "mlpserve", "--server", one_server.address, "score", tmp_path / "in", tmp_path / "o", "--json", env=env
    )
    assert json.loads(scored.stdout)["bad_rows_by_reason"] == {"not a picture": 2}, scored.stderr
    assert not called.exists()


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "PCX", "DDS", "SGI", "ICNS", "BLP"])
def test_other_formats_are_refused_in_words(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("P" if kind == "BLP" else "RGB", (64, 64)).save(buffer, kind)
    with pytest.raises(NotAPictureError, match=EXPECTED):
        from_bytes(buffer.getvalue(), 28, 28)


@pytest.mark.parametrize("kind", [*pictures.FORMATS, "MPO"])
def test_every_format_is_read(kind: str) -> None:
    buffer = io.BytesIO()
    extra = {"save_all": True, "append_images": [photograph(3)]} if kind == "MPO" else {}
    photograph(7).save(buffer, kind, **extra)
    image = from_bytes(buffer.getvalue(), 28, 28)
    with Image.open(buffer) as opened:
        assert opened.format == kind
        assert np.array_equal(image, from_bytes(png(np.asarray(opened.convert("L"))), 28, 28))


def test_the_flag_says_the_bound(tmp_path: Path) -> None:
    assert cli.parser().parse_args(["predict", "x.png"]).max_pixels == pictures.MOST_PIXELS


def test_nothing_of_ours_opens_a_picture_without_naming_the_formats() -> None:
    calls = 0
    for folder in ("proto/mlpserve", "client", "trainer", "server", "bench", "demo"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                    calls += 1
                    assert any(word.arg == "formats" for word in node.keywords), f"{path}:{node.lineno}"
    assert calls == 1


# --- sizes ---------------------------------------------------------------------------------------------------------


def test_pictures_are_refused_before_they_are_decoded(one_server: ServerProcess, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    small.write_bytes(png(mnist_images()[0]))
    command = [BIN / "mlpserve", "--server", one_server.address, "predict"]
    _, _, usual = peak(*command, small)
    paths = []
    for name, content in bombs.pictures().items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    status, said, megabytes = peak(*command, *paths, small)
    assert status == 4, said
    assert "Traceback" not in said
    assert "Warning" not in said
    for path in paths[:-1]:
        assert f"{path}: " in said
    assert said.count("at most 50,000,000 are decoded. Shrink the picture, or raise --max-pixels") == 5
    assert said.count("Shrink the picture, or raise --max-pixels") == 6
    assert "7,200 x 7,200 pixels" in said
    assert "10,000 x 10,000 pixels" in said
    assert "at most 50,000,000 pixels are decoded: Image size" in said
    assert megabytes < usual + 60, "MB at most; a decoded one has 200"


def test_the_largest_that_is_decoded_is_in_memory_once(one_server: ServerProcess, tmp_path: Path) -> None:
    image = Image.new("RGBA", (7000, 7100))
    image.paste((0, 0, 0, 255), (3000, 2000, 3500, 5000))
    image.save(tmp_path / "x.png")
    Image.new("L", (60, 60)).save(tmp_path / "blank.png")
    command = [BIN / "mlpserve", "--server", one_server.address, "predict"]
    _, _, usual = peak(*command, tmp_path / "blank.png")
    status, said, megabytes = peak(*command, tmp_path / "x.png")
    assert status == 0, said
    assert megabytes < usual + 7 * 49.7, "MB: four bytes a pixel, and grey ones; it was twenty"
    with pytest.raises(TooLargeError, match="7,000 x 7,100 pixels; at most 1,000,000"):
        read_image(tmp_path / "x.png", 28, 28, max_pixels=1_000_000)
    raised = run(*["mlpserve", "--server", one_server.address, "predict"], "--max-pixels", 1000, tmp_path / "x.png")
    assert raised.returncode == 4
    assert "at most 1,000 are decoded" in raised.stderr


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(bombs.SIZE)
    with pytest.raises(TooLargeError, match="more than 64 MB"):
        read_image(tmp_path / "x.png", 28, 28)


def test_strips_make_the_same_grey_as_the_whole() -> None:
    generator = np.random.default_rng(0)
    rgba = Image.fromarray(generator.integers(0, 256, (1500, 1400, 4)).astype(np.uint8))
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba.convert("RGB").save(file, "PNG", exif=exif, compress_level=1)
    turned = Image.open(file, formats=("PNG",))
    for image in (rgba, rgba.convert("RGB"), rgba.convert("P"), rgba.convert("LA"), turned):
        whole = ImageOps.exif_transpose(image)
        if whole.mode in ("RGBA", "LA"):
            whole = whole.convert("RGBA")
            whole = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
        assert np.array_equal(np.asarray(to_grey(image)), np.asarray(whole.convert("L"))), image.mode
    deep = Image.fromarray(generator.integers(0, 65536, (1500, 1400)).astype(np.uint16))
    assert np.array_equal(np.asarray(to_grey(deep)), np.asarray(deep) // 257)


# --- inputs of jobs ------------------------------------------------------------------------------------------------

READ = """
import sys
from pathlib import Path
from mlpserve_client.scoring import ScoringError
from mlpserve_client.scoring.inputs import Form, open_inputs
from mlpserve_client.scoring.inputs.labels import read_labels
for path in sys.argv[1:]:
    try:
        if "labels" in path:
            read_labels(Path(path), 10)
        (source,) = open_inputs([path], Form(28, 28, False))
        errors = [error for chunk in source.read(0, source.rows, 4096) for error in chunk.decode().errors.values()]
        print(f"{path}: {len(errors)} of {source.rows} rows are bad, such as {errors[:1]}")
        source.close()
    except ScoringError as error:
        print(error)
"""


def _files(folder: Path, **contents: bytes) -> list[Path]:
    paths = []
    for name, content in contents.items():
        paths.append(folder / name.replace("__", "."))
        paths[-1].write_bytes(content)
    return paths


def test_inputs_that_unpack_to_far_more(tmp_path: Path) -> None:
    (small,) = _files(tmp_path, small__npy=bombs.npy_that_claims((0, 28, 28)))
    _, _, usual = peak(sys.executable, "-c", READ, small)
    paths = _files(
        tmp_path,
        picture__tar__gz=bombs.tar_of_a_huge_picture(),
        note__tar__gz=bombs.tar_of_a_huge_note(),
        header__tar__gz=bombs.tar_of_a_huge_header(),
        sparse__tar=bombs.sparse_tar(),
        window__tar__xz=bombs.xz_with_a_huge_window(bombs.sparse_tar()),
        labels__gz=bombs.labels_gz(),
        header__npz=bombs.npz_with_a_huge_header(),
        claims__npy=bombs.npy_that_claims((10**12, 28, 28)),
        labels__npy=bombs.npy_that_claims((10**12,)),
    )
    paths += [bombs.parquet(tmp_path / f"{kind}.parquet", kind) for kind in ("pages", "runs")]
    status, said, megabytes = peak(sys.executable, "-c", READ, *paths)
    assert status == 0, said
    lines = dict(zip([path.name for path in paths], said.splitlines(), strict=True))
    unpacks = "Unpack it yourself and score the .tar"
    expected = {
        "picture.tar.gz": unpacks,
        "note.tar.gz": unpacks,
        "header.tar.gz": f"a header of {bombs.SIZE:,} bytes",
        "sparse.tar": "1 of 1 rows are bad, such as [('too large'",
        "window.tar.xz": "not a readable tar archive (Memory usage limit exceeded)",
        "labels.gz": "labels.gz has 11 labels for 10 rows",
        "header.npz": "its header says that it is 209,715,200 bytes long itself",
        "claims.npy": "so small a file cannot hold them",
        "labels.npy": f"has {10**12} labels for 10 rows",
        "pages.parquet": "column 'image' becomes 199 MB out of",
        "runs.parquet": "column 'image' becomes",
    }
    for name, words in expected.items():
        assert words in lines[name], lines[name]
    assert megabytes < usual + 60, "MB at most, and each becomes 200"


def test_a_damaged_footer_does_not_end_the_process(tmp_path: Path) -> None:
    """Which it does where pyarrow is asked for what the footer says of a column."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": [[n % 256 for n in range(784)]] * 3}), path)
    whole = path.read_bytes()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
    ((rows, (column,)),) = row_groups(io.BytesIO(whole))
    assert (rows, column.values, column.start) == (3, chunk.num_values, chunk.dictionary_page_offset)
    assert (column.unpacked, column.packed) == (chunk.total_uncompressed_size, chunk.total_compressed_size)
    paths = []
    for position in range(start, len(whole) - 8):
        paths.append(tmp_path / f"{position}.parquet")
        paths[-1].write_bytes(whole[:position] + bytes([whole[position] ^ 0x11]) + whole[position + 1 :])
    status, said, _ = peak(sys.executable, "-c", READ, *paths)
    assert status == 0, said
    assert said.count("not a readable Parquet file") > 100


def test_a_footer_that_says_nothing_of_a_column(tmp_path: Path) -> None:
    """Fields under other numbers; pyarrow opens such a file."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": [[n % 256 for n in range(784)]] * 3}), path)
    whole = path.read_bytes()
    found = []
    for position in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole) - 8):
        if whole[position] == 0x1C:  # the next field, a struct; the one after that
            path.write_bytes(whole[:position] + b"\x2c" + whole[position + 1 :])
            try:
                TableInput(File(str(path)), Form(28, 28, raw=False)).close()
            except ScoringError as error:
                found.append(str(error))
    assert any("does not say what a column is" in said for said in found), found


def test_many_rows_that_refer_to_one_large_value(tmp_path: Path) -> None:
    (small,) = _files(tmp_path, small__npy=bombs.npy_that_claims((0, 28, 28)))
    _, _, usual = peak(sys.executable, "-c", READ, small)
    path = bombs.parquet(tmp_path / "references.parquet", "references")
    rows = pq.ParquetFile(path).metadata.num_rows
    status, said, megabytes = peak(sys.executable, "-c", READ, path)
    assert status == 0, said
    assert f"{rows} of {rows} rows are bad, such as [('not a picture'" in said
    assert megabytes < usual + 1200, (
        f"MB at most; the values together have {rows * 900_000 >> 20}, twice while Arrow makes them"
    )


def test_a_job_goes_on_after_such_rows(one_server: ServerProcess, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, content in enumerate(bombs.pictures().values()):
        (folder / f"{number}.png").write_bytes(content)
    (folder / "9.png").write_bytes(png(mnist_images()[0]))
    command = [BIN / "mlpserve", "--server", one_server.address, "score"]
    status, said, megabytes = peak(*command, folder, tmp_path / "o", "--json")
    assert status == 4, said
    assert json.loads(said.splitlines()[0])["bad_rows_by_reason"] == {"too large": 6, "not a picture": 1}
    errors = pq.read_table(tmp_path / "o")["error"].to_pylist()
    assert "at most 50,000,000 are decoded" in errors[0]
    assert errors[-1] is None
    assert megabytes < 400
