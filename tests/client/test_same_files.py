"""Training, predict and score find the same files in the same folder, and account for every one."""

import itertools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.mnist import mnist_images

from mlpserve_client.commands.predict import pictures_of
from mlpserve_client.errors import InvalidInputError
from mlpserve_client.prepare import read_image
from mlpserve_client.scoring.inputs import Form, find, open_inputs
from mlpserve_trainer.data import load
from mlpserve_trainer.errors import DataError

IMAGE = Image.fromarray(mnist_images()[0])
GOOD = {
    "png": ("a.png", "PNG"),
    "capitals": ("B.PNG", "PNG"),
    "jfif": ("c.jfif", "JPEG"),
    "no ending": ("scan", "PNG"),
    "unknown ending": ("x.scan", "BMP"),
    "not UTF-8": (os.fsdecode(b"\xe9.png"), "PNG"),
    "under a link": ("linked/d.png", "PNG"),
    "deep": ("more/and more/e.gif", "GIF"),
}
BAD: dict[str, tuple[str, bytes]] = {
    "damaged": ("bad.png", b"\x89PNG\r\n\x1a\nnothing"),
    "heic": ("x.HEIC", b"\0\0\0\x18ftypheic" + bytes(20)),
    "empty": ("empty.jpg", b""),
}
OTHERS: dict[str, str] = {
    "hidden": "._a.png",
    "notes": "notes.txt",
    "unknown": "data.bin",
    "system": "Thumbs.db",
    "hidden folder": ".thumbnails",
    "system folder": "@eaDir",
    "loop": "round",
    "dangling": "gone.png",
    "pipe": "pipe.png",
}
THINGS = st.lists(st.sampled_from([*GOOD, *BAD, *OTHERS]), unique=True, max_size=8)
_numbers = itertools.count()


def _save(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    IMAGE.save(path, kind)


def _put(folder: Path, thing: str) -> None:
    """One thing into a class folder."""
    if thing in GOOD:
        name, kind = GOOD[thing]
        if thing == "under a link":
            elsewhere = folder.parent.with_name(folder.parent.name + "-elsewhere") / folder.name
            _save(elsewhere / "d.png", kind)
            (folder / "linked").symlink_to(elsewhere)
        else:
            _save(folder / name, kind)
        return
    if thing in BAD:
        (folder / BAD[thing][0]).write_bytes(BAD[thing][1])
        return
    path = folder / OTHERS[thing]
    make: dict[str, Callable[[], object]] = {
        "hidden folder": lambda: _save(path / "y.png", "PNG"),
        "system folder": lambda: _save(path / "y.png", "PNG"),
        "loop": lambda: path.symlink_to(folder.parent),
        "dangling": lambda: path.symlink_to(folder / "nowhere"),
        "pipe": lambda: os.mkfifo(path),
    }
    make.get(thing, lambda: path.write_bytes(b"neither"))()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(THINGS, min_size=2, max_size=3))
def test_all_three_find_the_same_and_account_for_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: list[list[str]]
) -> None:
    root = tmp_path / str(next(_numbers)) / "data"
    for number, things in enumerate(classes):
        for name in ("1", "2", "3"):
            _save(root / f"class {number}" / f"{name}.png", "PNG")
        for thing in things:
            _put(root / f"class {number}", thing)
    everything = [thing for things in classes for thing in things]
    good = 3 * len(classes) + sum(thing in GOOD for thing in everything)
    bad = sum(thing in BAD for thing in everything)
    others = sum(thing in OTHERS for thing in everything)

    # score
    named = find([str(root)])
    (source,) = open_inputs(named, Form(28, 28, raw=True))
    decoded = [chunk.decode() for chunk in source.read(0, source.rows, 4)]
    source.close()
    assert sum(len(part.images) for part in decoded) == good
    assert sum(len(part.errors) for part in decoded) == bad
    assert len(named.passed_over) == others
    scored = {f"{root}/{name}" for name in named.listings[str(root)].pictures}

    # predict
    found = list(pictures_of([root]))
    assert {str(path) for path in found} == scored
    read = 0
    for path in found:
        try:
            read_image(path, 28, 28, raw=True)
            read += 1
        except InvalidInputError:
            pass
    assert (read, len(found) - read) == (good, bad)
    said = re.search(r"passed over (\d+): ", capsys.readouterr().err)
    assert (int(said[1]) if said else 0) == others

    # training
    if bad:
        with pytest.raises(DataError) as caught:
            load(str(root), cache=root, validation=0.2, seed=0, image_size=None)
        counted = re.match(r"(\d+) of (\d+) pictures", str(caught.value))
        assert (int(counted[1]) if counted else 1) == bad
        assert int(counted[2]) == good + bad if counted else bad == 1
    else:
        dataset = load(str(root), cache=root, validation=0.2, seed=0, image_size=None)
        assert dataset.sources.read == len(dataset.train) + len(dataset.validation) + len(dataset.test) == good
        assert set(dataset.sources.passed_over) == {path.removeprefix(f"{root}/") for path in named.passed_over}
    shutil.rmtree(root.parent)


def test_predict_says_what_it_passes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(tmp_path / "in/a.png", "PNG")
    (tmp_path / "in/notes.txt").write_text("x")
    assert list(pictures_of([tmp_path / "in", tmp_path / "other.png"])) == [
        tmp_path / "in/a.png",
        tmp_path / "other.png",
    ]
    assert "passed over 1: 1 neither a picture nor an array (notes.txt)" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidInputError, match="no pictures in this folder"):
        list(pictures_of([tmp_path / "none"]))
