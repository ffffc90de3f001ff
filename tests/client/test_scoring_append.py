"""A job that goes on with new inputs: nothing is scored twice, and the bytes are those of one job over all of them."""

import hashlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.mnist import mnist_images, mnist_labels
from support.processes import BIN, ServerProcess, run
from support.waiting import wait_until
from tests.support.pictures import png
from tests.support.scoring import score_job

from mlpserve_client.scoring import ScoringError, Summary

ROWS = 20
SETTINGS = {"keep": ("id",), "label_column": "truth", "part_rows": 8}


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One transport is enough for what a job writes."""
    with ServerProcess(tmp_path_factory.mktemp("server"), store) as process:
        yield process


def _files(folder: Path, start: int, stop: int) -> list[Path]:
    """Small files with rows of their own."""
    folder.mkdir(exist_ok=True)
    for number in range(start, stop):
        rows = slice(number * ROWS % 10_000, number * ROWS % 10_000 + ROWS)
        columns = {
            "image": [image.tobytes() for image in mnist_images()[rows]],
            "truth": mnist_labels()[rows].tolist(),
            "id": [f"{number}-{row}" for row in range(ROWS)],
        }
        pq.write_table(pa.table(columns), folder / f"{number:04}.parquet")
    return [folder / f"{number:04}.parquet" for number in range(start, stop)]


def _digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _wait_for_parts(output: Path, count: int) -> None:
    wait_until(lambda: len(list(output.glob("_part-*"))) >= count, f"{count} parts are written", every=0.002)


def _append(server: ServerProcess, inputs: list[Path], output: Path, **options: object) -> Summary:
    return score_job(server, inputs, output, append=True, **SETTINGS | options)


def test_ten_files_more_cost_the_work_of_ten(server: ServerProcess, tmp_path: Path) -> None:
    old = _files(tmp_path / "in", 0, 30)
    first = _append(server, [tmp_path / "in"], tmp_path / "o")  # nothing there yet: a job like any other
    assert (first.rows_now, first.parts_before) == (30 * ROWS, 0)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "o").glob("*part-*")}
    new = _files(tmp_path / "in", 30, 40)
    # Both ways to say it: the whole folder once more, or what is new alone, its parts' inputs being gone.
    shutil.copytree(tmp_path / "o", tmp_path / "p")
    again = _append(server, [tmp_path / "in"], tmp_path / "o")
    for path in old:
        path.rename(path.with_suffix(".away"))
    alone = _append(server, new, tmp_path / "p")
    for path in old:
        path.with_suffix(".away").rename(path)
    fresh = score_job(server, [tmp_path / "in"], tmp_path / "fresh", **SETTINGS)
    for summary in (again, alone):
        assert (summary.rows_now, summary.parts_before, summary.parts) == (10 * ROWS, 90, 120)
        assert summary.tally == fresh.tally
    assert _digest(tmp_path / "o") == _digest(tmp_path / "p") == _digest(tmp_path / "fresh")
    assert {name: (tmp_path / "o" / name).stat().st_mtime_ns for name in before} == before, "written a second time"
    # The same command once more, with --append or without it, has nothing to do.
    for append in (True, False):
        idle = score_job(server, [tmp_path / "in"], tmp_path / "o", append=append, **SETTINGS)
        assert idle.rows_now == 0


def test_a_file_that_sorts_in_between_comes_last(server: ServerProcess, tmp_path: Path) -> None:
    a, b, c = _files(tmp_path / "in", 0, 3)
    score_job(server, [a, c], tmp_path / "o", **SETTINGS)
    with pytest.raises(ScoringError, match=r"it had other inputs \(2, now 3\).* give --append"):
        score_job(server, [tmp_path / "in"], tmp_path / "o", **SETTINGS)
    _append(server, [tmp_path / "in"], tmp_path / "o")
    score_job(server, [a, c, b], tmp_path / "fresh", **SETTINGS)
    assert _digest(tmp_path / "o") == _digest(tmp_path / "fresh")
    inputs = pq.read_table(tmp_path / "o")["input"].to_pylist()
    assert inputs == [str(path) for path in (a, c, b) for _ in range(ROWS)]


def test_killed_while_it_appends_it_goes_on(server: ServerProcess, tmp_path: Path) -> None:
    more = [tmp_path / "x.npy", tmp_path / "y.npy"]
    for path in more:
        np.save(path, mnist_images()[:2000])
    flags = ["--part-rows", "100", "--batch", "10", "--in-flight", "1", "--append"]
    command = [str(BIN / "mlpserve"), "--server", server.address, "score"]
    subprocess.run([*command, str(more[0]), str(tmp_path / "p"), *flags], check=True, capture_output=True)
    for wanted in (23, 26):
        with subprocess.Popen([*command, *map(str, more), str(tmp_path / "p"), *flags]) as job:
            _wait_for_parts(tmp_path / "p", wanted)
            job.send_signal(signal.SIGKILL)
        assert not (tmp_path / "p/_SUCCESS").exists(), "readers would take it for finished"
    last = run(*command, *more, tmp_path / "p", *flags, "--json")
    assert last.returncode == 0, last.stderr
    assert 26 <= json.loads(last.stdout)["parts_before"] < 40
    run(*command, *more, tmp_path / "fresh", *flags[:-1])
    assert _digest(tmp_path / "p") == _digest(tmp_path / "fresh")


def test_a_plan_without_its_parts_goes_on(server: ServerProcess, tmp_path: Path) -> None:
    """Killed between two steps: the mark of success gone and the old plan there; the new plan and nothing else."""
    files = _files(tmp_path / "in", 0, 4)
    score_job(server, files, tmp_path / "fresh", **SETTINGS)
    score_job(server, files[:3], tmp_path / "o", **SETTINGS)
    (tmp_path / "o/_SUCCESS").unlink()
    shutil.copytree(tmp_path / "o", tmp_path / "p")
    shutil.copy(tmp_path / "fresh/_job.json", tmp_path / "p")
    for name in ("_part-00001.json", "part-00004.parquet"):
        (tmp_path / "p" / name).unlink()  # of files that are named no more: read again from where they are
    for output in ("o", "p"):
        _append(server, files[3:], tmp_path / output)
        assert _digest(tmp_path / output) == _digest(tmp_path / "fresh")
    # A part that is there and damaged is only noticed when its bytes are looked at.
    (tmp_path / "p/part-00002.parquet").write_bytes(b"damaged")
    _append(server, files[3:], tmp_path / "p")
    assert _digest(tmp_path / "p") == _digest(tmp_path / "fresh")
    # And where its input is another one by now, nothing is made up.
    (tmp_path / "p/part-00002.parquet").write_bytes(b"damaged")
    _files(tmp_path / "in", 5, 6)[0].rename(files[0])
    with pytest.raises(ScoringError, match=r"0000\.parquet has changed since it was scored"):
        _append(server, files[3:], tmp_path / "p")
    assert not (tmp_path / "p/_SUCCESS").exists()


def test_the_labels_file_grows_with_the_inputs(server: ServerProcess, tmp_path: Path) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", mnist_images()[number * 50 : number * 50 + 50])
    first, second, labels = tmp_path / "0.npy", tmp_path / "1.npy", tmp_path / "labels.npy"
    np.save(labels, mnist_labels()[:50])
    score_job(server, [first], tmp_path / "o", labels=str(labels))
    np.save(labels, mnist_labels()[:100])
    summary = score_job(server, [second], tmp_path / "o", labels=str(labels), append=True)
    assert (summary.rows_now, summary.tally.labelled) == (50, 100)
    score_job(server, [first, second], tmp_path / "fresh", labels=str(labels))
    assert _digest(tmp_path / "o") == _digest(tmp_path / "fresh")
    np.save(tmp_path / "2.npy", mnist_images()[:10])
    np.save(labels, np.concatenate([mnist_labels()[:10], mnist_labels()[:100]]))  # in front instead of behind
    with pytest.raises(ScoringError, match="was scored with other true labels"):
        score_job(server, [tmp_path / "2.npy"], tmp_path / "o", labels=str(labels), append=True)


def test_what_would_change_the_parts_that_are_there_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    old = _files(tmp_path / "in", 0, 2)
    _append(server, old, tmp_path / "o")
    whole = _digest(tmp_path / "o")
    (new,) = _files(tmp_path / "new", 7, 8)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/0.png").write_bytes(png(mnist_images()[0]))
    refusals = [
        (new, {"part_rows": 9}, "it had other settings: part rows"),
        (new, {"keep": ()}, "it had other settings: form, kept"),
        (new, {"old_columns": True}, "it had other settings: old columns"),
        (new, {"overwrite": True}, "--append keeps what --overwrite removes"),
    ]
    for source, options, words in refusals:
        with pytest.raises(ScoringError, match=words):
            _append(server, [source], tmp_path / "o", **options)
        assert _digest(tmp_path / "o") == whole
    np.save(tmp_path / "x.npy", mnist_images()[:5])
    score_job(server, [tmp_path / "x.npy"], tmp_path / "plain")
    with pytest.raises(ScoringError, match="one more column, `file`"):
        score_job(server, [tmp_path / "pictures"], tmp_path / "plain", append=True)
    score_job(server, [tmp_path / "pictures"], tmp_path / "named")
    (tmp_path / "pictures/1.png").write_bytes(png(mnist_images()[1]))
    with pytest.raises(ScoringError, match=r"pictures has changed since .* a file or folder of their own"):
        score_job(server, [tmp_path / "pictures"], tmp_path / "named", append=True)
    pq.write_table(pq.read_table(old[0]).slice(1), old[0])
    with pytest.raises(ScoringError, match=r"0000\.parquet has changed since it was scored"):
        _append(server, [tmp_path / "in"], tmp_path / "o")
    assert _digest(tmp_path / "o") == whole


def test_one_file_by_two_names_is_scored_once(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _files(tmp_path / "in", 0, 2)
    _append(server, files, tmp_path / "o")
    monkeypatch.chdir(tmp_path / "in")
    (tmp_path / "link.parquet").symlink_to(files[1])
    assert _append(server, [Path("0000.parquet"), tmp_path / "link.parquet"], tmp_path / "o").rows_now == 0
