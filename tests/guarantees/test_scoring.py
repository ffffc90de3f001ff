"""A scoring job that is killed again and again, and one with bad rows of five kinds."""

import hashlib
import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.mnist import mnist_images
from support.processes import BIN, ServerProcess, run
from tests.support.pictures import png

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(900)]

KILLS = 50
IMAGES = 600_000
ROWS, BAD = 20_000, 200


def _digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_killed_again_and_again(store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    random_ = random.Random(23)
    np.save(tmp_path / "x.npy", np.tile(mnist_images(), (IMAGES // 10_000, 1, 1)))
    flags = [str(tmp_path / "x.npy"), str(tmp_path / "o"), "--part-rows", "2000", "--batch", "16", "--in-flight", "1"]
    with ServerProcess(tmp_path, store) as server:
        command = [str(BIN / "mlpserve"), "--server", server.address, "score"]
        kills, in_the_middle = 0, 0
        while kills < KILLS:
            with subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
                time.sleep(random_.uniform(0.3, 1.3))
                in_the_middle += job.poll() is None
                job.kill()
            kills += 1
            assert not (tmp_path / "o/_SUCCESS").exists(), "the job was over too soon"
        last = run("mlpserve", "--server", server.address, "score", *flags, "--json")
        assert last.returncode == 0, last.stderr
        summary = json.loads(last.stdout)
        whole = run("mlpserve", "--server", server.address, "score", flags[0], tmp_path / "whole", *flags[2:])
        assert whole.returncode == 0, whole.stderr
    rows = np.array(pq.read_table(tmp_path / "o")["row"])
    ours, theirs = _digest(tmp_path / "o"), _digest(tmp_path / "whole")
    differing = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    figures |= {
        "kill -9": kills,
        "while it ran": in_the_middle,
        "parts": summary["parts"],
        "of them before the last run": summary["parts_before"],
        "rows": len(rows),
        "rows twice or missing": int((rows != np.arange(IMAGES)).sum()),
        "files": len(theirs),
        "files that differ": len(differing),
    }
    assert not differing
    assert in_the_middle == KILLS
    assert np.array_equal(rows, np.arange(IMAGES))


def test_bad_rows_of_five_kinds(store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """One row in a hundred: null, no picture, a cut picture, an empty page, too few raw pixels."""
    images = [mnist_images()[n % 10_000] for n in range(ROWS)]
    values: list[Any] = [png(image) if n % 2 else image.tobytes() for n, image in enumerate(images)]
    bad = sorted(random.Random(29).sample(range(ROWS), BAD))
    blank = png(np.full((60, 60), 255, np.uint8))
    kinds = (None, b"GIF89a nothing", png(images[1])[:120], blank, b"\x07" * 500)
    for number, row in enumerate(bad):
        values[row] = kinds[number % len(kinds)]
    pq.write_table(pa.table({"image": pa.array(values, pa.binary())}), tmp_path / "x.parquet")
    with ServerProcess(tmp_path, store) as server:
        result = run("mlpserve", "--server", server.address, "score", tmp_path / "x.parquet", tmp_path / "o", "--json")
        np.save(tmp_path / "all.npy", np.stack(images))
        good = run("mlpserve", "--server", server.address, "score", tmp_path / "all.npy", tmp_path / "all")
        assert good.returncode == 0, good.stderr
    summary = json.loads(result.stdout)
    table = pq.read_table(tmp_path / "o")
    reported = [row for row, error in enumerate(table["error"].to_pylist()) if error]
    expected = pq.read_table(tmp_path / "all")["predicted"].to_pylist()
    answers = table["predicted"].to_pylist()
    wrong = sum(answers[row] != expected[row] for row in range(ROWS) if row not in set(bad))
    figures |= {
        "rows": ROWS,
        "bad": BAD,
        "reported": len(reported),
        "others wrong": wrong,
        **summary["bad_rows_by_reason"],
    }
    assert result.returncode == 4
    assert reported == bad
    assert wrong == 0
    assert sum(summary["bad_rows_by_reason"].values()) == BAD
