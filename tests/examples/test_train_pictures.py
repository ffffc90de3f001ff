"""Training on a folder of pictures that are drawn here, and serving what it published."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.processes import ServerProcess, run
from tests.support.examples import run_example

SHAPES = ("circle", "square", "triangle")


def draw(shape: str, random: np.random.Generator) -> Image.Image:
    """A filled dark shape near the middle of white paper, 40 to 60 pixels wide and high."""
    width, height = (int(side) for side in random.integers(40, 61, 2))
    picture = Image.new("RGB", (width, height), "white")
    radius = int(random.integers(10, 15))
    x, y = (side // 2 + int(random.integers(-4, 5)) for side in (width, height))
    box = (x - radius, y - radius, x + radius, y + radius)
    ink = tuple(int(value) for value in random.integers(0, 100, 3))
    drawing = ImageDraw.Draw(picture)
    if shape == "circle":
        drawing.ellipse(box, fill=ink)
    elif shape == "square":
        drawing.rectangle(box, fill=ink)
    else:
        drawing.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=ink)
    return picture


@pytest.mark.slow
def test_from_pictures_to_answers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for shape in SHAPES:
        (folder := tmp_path / "shapes" / shape).mkdir(parents=True)
        for number in range(100):
            draw(shape, random).save(folder / f"{number:03}.png")
    done = run_example("train_pictures.py", "shapes", "--store", "store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "store/shapes/1: classes circle, square, triangle; test accuracy" in done.stdout

    unseen = tmp_path / "unseen"
    unseen.mkdir()
    paths = [unseen / f"{shape}-{number}.png" for shape in SHAPES for number in range(10)]
    for path in paths:
        draw(path.name.partition("-")[0], random).save(path)
    with ServerProcess(tmp_path, tmp_path / "store", "--model", "shapes") as server:
        predicted = run("mlpserve", "--server", server.address, "predict", "--json", *paths)
    assert predicted.returncode == 0, predicted.stderr
    labels = [json.loads(line)["best"][0]["label"] for line in predicted.stdout.splitlines()]
    right = [label == path.name.partition("-")[0] for label, path in zip(labels, paths, strict=True)]
    assert sum(right) >= 24, predicted.stdout  # a guess would be right for 10 of the 30


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = run_example("train_pictures.py", "photos", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("train_pictures: ")
    assert "Traceback" not in done.stderr
