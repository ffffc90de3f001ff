"""A person's own data, ten classes of 64x48 colour pictures, from a folder to answers: no code knows about digits."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from support.processes import ServerProcess, run

COLOURS = ["crimson", "navy", "darkgreen", "purple"]
SHAPES = ["bar", "beam", "box", "cross", "disc", "frame", "hill", "ring", "slash", "valley"]
ROWS, COLS = 64, 48


def _draw(shape: str, generator: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (COLS, ROWS), "white")
    draw = ImageDraw.Draw(picture)
    x, y = (int(v) for v in generator.integers(-4, 5, 2) + np.array([COLS // 2, ROWS // 2]))
    size, ink = int(generator.integers(12, 17)), COLOURS[generator.integers(len(COLOURS))]
    box = (x - size, y - size, x + size, y + size)
    lines = {
        "bar": [(x, y - size, x, y + size)],
        "beam": [(x - size, y, x + size, y)],
        "cross": [(x - size, y, x + size, y), (x, y - size, x, y + size)],
        "slash": [(x - size, y + size, x + size, y - size)],
        "hill": [(x - size, y + size, x, y - size), (x, y - size, x + size, y + size)],
        "valley": [(x - size, y - size, x, y + size), (x, y + size, x + size, y - size)],
    }
    for line in lines.get(shape, []):
        draw.line(line, fill=ink, width=5)
    if shape in ("box", "frame"):
        draw.rectangle(box, fill=ink if shape == "box" else None, outline=ink, width=4)
    if shape in ("disc", "ring"):
        draw.ellipse(box, fill=ink if shape == "disc" else None, outline=ink, width=4)
    noisy = np.asarray(picture).astype(int) + generator.integers(-20, 21, (ROWS, COLS, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def test_from_a_folder_of_pictures_to_answers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("train", 80), ("test", 20)):
        for shape in SHAPES:
            folder = tmp_path / "shapes" / part / shape
            folder.mkdir(parents=True)
            for number in range(count):
                _draw(shape, generator).save(folder / f"{number:03}.png")
    flags = ["--data", tmp_path / "shapes", "--validation", 0.2, "--epochs", 25, "--warp", 0.5, "--batch-size", 16]
    trained = run("mlpserve-train", "--store", tmp_path / "s", *flags, "--min-accuracy", 0.9)
    assert trained.returncode == 0, trained.stderr
    assert "images of 64x48, 10 classes" in trained.stdout
    manifest = json.loads((tmp_path / "s/shapes/1/manifest.json").read_text())
    assert (manifest["image"]["rows"], manifest["image"]["cols"], manifest["labels"]) == (ROWS, COLS, SHAPES)

    with ServerProcess(tmp_path, tmp_path / "s", "--model", "shapes") as server:
        address = ["--server", server.address]
        info = run("mlpserve", *address, "info")
        assert re.search(r"^images +64x48\b", info.stdout, re.MULTILINE), info.stdout
        pictures = [tmp_path / f"shapes/test/{shape}/000.png" for shape in SHAPES]
        predicted = run("mlpserve", *address, "predict", *pictures)
        assert predicted.returncode == 0, predicted.stderr
        right = sum(shape in line for shape, line in zip(SHAPES, _answers(predicted.stdout), strict=True))
        assert right >= 8, predicted.stdout
        scored = run("mlpserve", *address, "score", "--json", tmp_path / "shapes/test", tmp_path / "answers.parquet")
        assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["rows"] == 200
    answers = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert len(answers) == 200
    assert sum(Path(answer["file"]).parent.name == answer["predicted"] for answer in answers) >= 180, answers[:3]


def _answers(output: str) -> list[str]:
    """What is said of each picture, without its path."""
    return [line.rsplit("000.png", 1)[1] for line in output.splitlines() if "000.png" in line]
