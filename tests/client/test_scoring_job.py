"""A job as a whole: parts, going on after anything, other inputs or models, labels, a second version."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.support import mnist
from tests.support.artifacts import publish_rolled
from tests.support.mnist import test_images as mnist_images
from tests.support.mnist import test_labels as mnist_labels
from tests.support.mnist import write_class_folders
from tests.support.processes import BIN, ServerProcess, free_port, run

from mlpserve_client.scoring import Endpoint, Options, ScoringError, Summary, score
from mlpserve_client.scoring.window import Window


def _job(server: ServerProcess, inputs: list[Path], output: Path, **options: Any) -> Summary:
    return score(Endpoint(server.address), list(map(str, inputs)), str(output), Options(**options))


def _digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _png(image: "np.ndarray[Any, Any]") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


# --- inputs --------------------------------------------------------------------------------------------------------


def test_several_inputs_of_several_kinds_in_parts(server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", mnist_images()[:100])
    np.savez_compressed(tmp_path / "b.npz", images=mnist_images()[100:150])
    pq.write_table(pa.table({"image": [image.tobytes() for image in mnist_images()[150:250]]}), tmp_path / "c.parquet")
    with tarfile.open(tmp_path / "d.tar.gz", "w:gz") as archive:
        for index in range(250, 280):
            content = _png(mnist_images()[index])
            for name, data in ((f"{index}.png", content), (f"{index}.txt", b"a note")):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    summary = _job(server, [tmp_path / "[a-d].*"], tmp_path / "o", part_rows=40, batch=16)
    assert (summary.tally.rows, summary.tally.bad_rows, summary.parts) == (280, 0, 3 + 2 + 3 + 1)
    table = pq.read_table(tmp_path / "o")
    assert table["row"].to_pylist() == list(range(280))
    whole = _job(server, [mnist.IMAGES], tmp_path / "all")
    assert whole.tally.rows == 10_000
    assert table["class_id"].to_pylist() == pq.read_table(tmp_path / "all")["class_id"].to_pylist()[:280]
    assert [Path(name).name for name in table["input"].to_pylist()][::90] == ["a.npy", "a.npy", "c.parquet", "d.tar.gz"]
    assert table["file"].to_pylist()[-1] == "279.png"


def test_a_folder_of_shards(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(3):
        images = mnist_images()[number * 50 : number * 50 + 50]
        table = pa.table(
            {"image": pa.FixedSizeBinaryArray.from_buffers(pa.binary(784), 50, [None, pa.py_buffer(images.tobytes())])}
        )
        pq.write_table(table, tmp_path / f"shards/{number}.parquet", row_group_size=7)
    summary = _job(server, [tmp_path / "shards"], tmp_path / "o", part_rows=20)
    assert (summary.tally.rows, summary.parts) == (150, 9)
    answers = pq.read_table(tmp_path / "o")["class_id"].to_pylist()
    expected = _job(server, [mnist.IMAGES], tmp_path / "all")
    assert expected.tally.bad_rows == 0
    assert answers == pq.read_table(tmp_path / "all")["class_id"].to_pylist()[:150]


def test_inputs_and_output_through_fsspec(server: ServerProcess, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    with memory.open("/in/a.npy", "wb") as file:
        np.save(file, mnist_images()[:90])
    pq.write_table(pa.table({"image": [image.tobytes() for image in mnist_images()[90:120]]}), tmp_path / "b.parquet")
    memory.put(str(tmp_path / "b.parquet"), "/in/b.parquet")
    summary = score(Endpoint(server.address), ["memory://in/*"], "memory://out", Options(part_rows=50))
    assert (summary.tally.rows, summary.parts) == (120, 3)
    names = {Path(name).name for name in memory.ls("/out", detail=False)}
    assert {"_SUCCESS", "_job.json", "part-00002.parquet"} <= names
    again = score(Endpoint(server.address), ["memory://in/*"], "memory://out", Options(part_rows=50))
    assert (again.parts_before, again.rows_now) == (3, 0)


# --- going on ------------------------------------------------------------------------------------------------------


def test_a_job_run_twice_does_nothing_twice(server: ServerProcess, tmp_path: Path) -> None:
    first = _job(server, [mnist.IMAGES], tmp_path / "o", part_rows=1000, labels=str(mnist.LABELS))
    before = _digest(tmp_path / "o")
    second = _job(server, [mnist.IMAGES], tmp_path / "o", part_rows=1000, labels=str(mnist.LABELS))
    assert (first.rows_now, second.rows_now, second.parts_before) == (10_000, 0, 10)
    assert second.tally == first.tally
    assert _digest(tmp_path / "o") == before


@pytest.mark.parametrize("missing", ["part-00003.parquet", "_part-00003.json", "_SUCCESS"])
def test_what_is_missing_or_damaged_is_made_again_with_the_same_bytes(
    server: ServerProcess, tmp_path: Path, missing: str
) -> None:
    _job(server, [mnist.IMAGES], tmp_path / "o", part_rows=2000)
    before = _digest(tmp_path / "o")
    (tmp_path / "o" / missing).unlink()
    if missing.startswith("part"):
        (tmp_path / "o/part-00001.parquet").write_bytes(b"PAR1")
    again = _job(server, [mnist.IMAGES], tmp_path / "o", part_rows=2000)
    assert again.rows_now == {"part-00003.parquet": 4000, "_part-00003.json": 2000, "_SUCCESS": 0}[missing]
    assert _digest(tmp_path / "o") == before


def _start(server: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [str(BIN / "mlpserve"), "--server", server, "score", *map(str, arguments)]
    # What a shell starts in the background ignores SIGINT, and so would a job that these tests interrupt.
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heed)  # type: ignore[call-overload,no-any-return]


def _wait_for_parts(folder: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("_part-*.json"))) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    np.save(tmp_path / "many.npy", np.tile(mnist_images(), (6, 1, 1)))
    return tmp_path / "many.npy"


def test_kill_9_and_again(server: ServerProcess, many: Path, tmp_path: Path) -> None:
    flags = [many, "--part-rows", 3000, "--batch", 256]
    for number in (1, 5, 11):
        with _start(server.address, *flags[:1], tmp_path / "o", *flags[1:]) as process:
            _wait_for_parts(tmp_path / "o", number, process)
            process.kill()
    with _start(server.address, *flags[:1], tmp_path / "o", *flags[1:], "--json") as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    summary = json.loads(output)
    assert summary["rows"] == 60_000
    assert summary["parts_before"] >= 11
    with _start(server.address, *flags[:1], tmp_path / "whole", *flags[1:]) as process:
        process.communicate(timeout=120)
    assert _digest(tmp_path / "o") == _digest(tmp_path / "whole")


def test_ctrl_c_says_how_to_go_on(server: ServerProcess, many: Path, tmp_path: Path) -> None:
    with _start(server.address, many, tmp_path / "o", "--part-rows", 1000, "--batch", 64) as process:
        _wait_for_parts(tmp_path / "o", 2, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the same command goes on" in errors
    assert "Traceback" not in errors


def test_a_server_that_restarts_is_waited_for(store: Path, many: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    flags = ["--part-rows", 2000, "--batch", 128]
    with _start(address, many, tmp_path / "o", *flags, "--json") as job:
        for number in (2, 8, 14, None):
            with ServerProcess(tmp_path, store, "--listen", address) as server:
                if number is None:
                    output, errors = job.communicate(timeout=120)
                else:
                    _wait_for_parts(tmp_path / "o", number, job)
                    server.process.kill()
    assert job.returncode == 0, errors
    summary = json.loads(output)
    assert (summary["rows"], summary["bad_rows"]) == (60_000, 0)
    assert summary["refusals"] > 0


def test_two_jobs_cannot_write_one_output(server: ServerProcess, many: Path, tmp_path: Path) -> None:
    with _start(server.address, many, tmp_path / "o", "--part-rows", 500, "--batch", 32) as process:
        _wait_for_parts(tmp_path / "o", 1, process)
        with pytest.raises(ScoringError, match="another job is writing there"):
            _job(server, [many], tmp_path / "o", part_rows=500)
        process.kill()


# --- what has changed ----------------------------------------------------------------------------------------------


def test_another_input_or_setting_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    source = tmp_path / "x.npy"
    np.save(source, mnist_images()[:50])
    _job(server, [source], tmp_path / "o")
    with pytest.raises(ScoringError, match=r"it had other settings: part rows.*or give --overwrite"):
        _job(server, [source], tmp_path / "o", part_rows=10)
    with pytest.raises(ScoringError, match="it had other inputs"):
        _job(server, [source, source], tmp_path / "o")
    np.save(source, mnist_images()[50:100])
    os.utime(source, (1, 1))
    with pytest.raises(ScoringError, match=r"x\.npy has changed since"):
        _job(server, [source], tmp_path / "o")
    _job(server, [source], tmp_path / "o", overwrite=True)
    expected = pq.read_table(tmp_path / "o")["class_id"].to_pylist()
    _job(server, [source], tmp_path / "p")
    assert pq.read_table(tmp_path / "p")["class_id"].to_pylist() == expected


def test_a_version_published_meanwhile_changes_nothing(store: Path, many: Path, tmp_path: Path, transport: str) -> None:
    own = Path(shutil.copytree(store, tmp_path / "store"))
    flags = ["--part-rows", 1000, "--batch", 16, "--in-flight", 1]
    with ServerProcess(tmp_path, own, "--transport", transport, "--poll", 0.05) as server:
        with _start(server.address, many, tmp_path / "o", *flags) as job:
            _wait_for_parts(tmp_path / "o", 3, job)
            publish_rolled(own / "mnist/1", own, 2)
            server.wait_for_log("version 2 took over from version 1")
            assert len(list((tmp_path / "o").glob("_part-*.json"))) < 60, "the job was over too soon"
            _, errors = job.communicate(timeout=120)
        assert job.returncode == 0, errors
        # A job that goes on asks for what it began with; a new one takes what is served.
        (tmp_path / "o/_part-00007.json").unlink()
        resumed = run("mlpserve", "--server", server.address, "score", many, tmp_path / "o", *flags, "--json")
        assert resumed.returncode == 0, resumed.stderr
        assert (json.loads(resumed.stdout)["model"]["version"], json.loads(resumed.stdout)["rows_now"]) == (1, 1000)
        table = pq.read_table(tmp_path / "o")
        assert set(table["model_version"].to_pylist()) == {1}
        fresh = _job(server, [many], tmp_path / "fresh")
        assert fresh.model.version == 2
        shifted = (np.array(table["class_id"]) + 2) % 10
        assert np.array_equal(np.array(pq.read_table(tmp_path / "fresh")["class_id"]), shifted)
        # The second version as a shadow run before promotion, or after it: both answer.
        both = _job(server, [many], tmp_path / "both", compare=1, part_rows=10_000)
        assert sum(both.tally.disagreements.values()) == 60_000
        rows = pq.read_table(tmp_path / "both")
        assert np.array_equal(np.array(rows["other_class_id"]), np.array(table["class_id"]))
    # A server that restarts still answers for the version before, so the job goes on; one that keeps none cannot.
    with ServerProcess(tmp_path, own) as server:
        (tmp_path / "o/_part-00006.json").unlink()
        again = run("mlpserve", "--server", server.address, "score", many, tmp_path / "o", *flags)
        assert again.returncode == 0, again.stderr
    with ServerProcess(tmp_path, own, "--keep-versions", 0) as server:
        (tmp_path / "o/_part-00007.json").unlink()
        refused = run("mlpserve", "--server", server.address, "score", many, tmp_path / "o", *flags)
        assert refused.returncode == 1
        assert "it began with version 1" in refused.stderr
        assert "now version 2" in refused.stderr
        missing = run("mlpserve", "--server", server.address, "score", many, tmp_path / "c", "--compare", 1)
        assert missing.returncode == 1
        assert "mlpserve-server --version 1" in missing.stderr


# --- bad rows, labels ----------------------------------------------------------------------------------------------


def test_bad_rows_are_counted_by_reason(server: ServerProcess, tmp_path: Path) -> None:
    values: list[Any] = [_png(image) for image in mnist_images()[:500]]
    values[7], values[8], values[300] = None, None, b"no picture at all"
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": values}), path)
    result = run("mlpserve", "--server", server.address, "score", path, tmp_path / "o", "--json", "--part-rows", 100)
    assert result.returncode == 2
    summary = json.loads(result.stdout)
    assert summary["bad_rows_by_reason"] == {"no image": 2, "not a picture": 1}
    assert "3 bad rows (2 no image, 1 not a picture); first: row 7: the image is null" in result.stderr
    errors = pq.read_table(tmp_path / "o")["error"].to_pylist()
    assert [row for row, error in enumerate(errors) if error] == [7, 8, 300]
    few = run("mlpserve", "--server", server.address, "score", path, tmp_path / "p", "--max-errors", 1)
    assert few.returncode == 1
    assert "3 bad rows, more than --max-errors 1; row 7: the image is null" in few.stderr


def test_labels_from_a_column_with_slices(server: ServerProcess, tmp_path: Path) -> None:
    columns = {
        "image": [image.tobytes() for image in mnist_images()[:1000]],
        "truth": [str(label) for label in mnist_labels()[:1000]],
        "writer": ["ann" if n % 3 else "bob" for n in range(1000)],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    flags = ["--label-column", "truth", "--slice-column", "writer"]
    command = ["mlpserve", "--server", server.address, "score", tmp_path / "x.parquet"]
    result = run(*command, tmp_path / "o", *flags, "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    table = pq.read_table(tmp_path / "o")
    right = np.array(table["class_id"]) == mnist_labels()[:1000]
    assert summary["accuracy"] == pytest.approx(right.mean())
    assert np.array(summary["confusion"]).trace() == right.sum()
    bob = np.arange(1000) % 3 == 0
    assert summary["slices"]["bob"] == {"rows": 334, "accuracy": pytest.approx(right[bob].mean())}
    assert 0 <= summary["calibration_error"] < 0.2
    people = run(*command, tmp_path / "o", *flags)
    assert "True class by row, answer by column:" in people.stdout
    assert "bob: " in people.stdout
    bad = pa.table(columns | {"truth": ["cat"] * 1000})
    pq.write_table(bad, tmp_path / "y.parquet")
    wrong = run(*command[:-1], tmp_path / "y.parquet", tmp_path / "q", "--label-column", "truth")
    assert wrong.returncode == 1
    assert "the true label 'cat' is no class of the model (0, 1, 2" in wrong.stderr


def test_labels_from_folders(server: ServerProcess, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "digits", per_class=10)
    summary = _job(server, [folder], tmp_path / "o", labels="folders")
    assert summary.tally.labelled == 100
    accuracy = summary.tally.accuracy()
    assert accuracy is not None
    assert accuracy > 0.85


# --- the window ----------------------------------------------------------------------------------------------------


def test_the_window_grows_by_one_a_round_and_halves_at_a_refusal() -> None:
    window = Window(16)
    for _ in range(2 + 3 + 4 + 5 + 6 + 7):
        window.answered(0.01, 100)
    assert window.largest in (7, 8)
    window.refused()
    window.refused()  # of the same moment
    sizes = int(window._size)
    assert sizes in (3, 4)
    assert window.refusals == 2
    for _ in range(1000):
        window.answered(0.01, 100)
    assert window.largest == 16


def test_answers_that_wait_for_one_another_shrink_the_window() -> None:
    window = Window(64)
    for _ in range(200):
        window.answered(0.01, 100)
    grown = window._size
    window.answered(10.0, 100)
    assert window._size < grown


@pytest.mark.slow
def test_on_a_ray_cluster_with_a_worker_killed(server: ServerProcess, many: Path, tmp_path: Path) -> None:
    """Two workers of a real local cluster, one of them killed: the same bytes as without it."""
    flags = [many, "--part-rows", 2000, "--batch", 256]
    with _start(server.address, *flags[:1], tmp_path / "o", *flags[1:], "--ray", "local", "--json") as job:
        _wait_for_parts(tmp_path / "o", 3, job)
        found = subprocess.run(["pgrep", "-f", "ray::_score_part"], capture_output=True, text=True, check=False)
        victims = [int(pid) for pid in found.stdout.split()]
        assert victims, "no worker of the cluster was seen at work"
        os.kill(victims[0], signal.SIGKILL)
        output, errors = job.communicate(timeout=240)
    assert job.returncode == 0, errors
    assert json.loads(output)["rows"] == 60_000
    with _start(server.address, *flags[:1], tmp_path / "whole", *flags[1:]) as process:
        process.communicate(timeout=120)
    assert {k: v for k, v in _digest(tmp_path / "o").items() if not k.startswith(".")} == _digest(tmp_path / "whole")


# --- what nobody should lose or see ---------------------------------------------------------------------------------


def test_a_damaged_or_cut_archive_is_not_a_shorter_one(server: ServerProcess, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for index in range(30):
            content = _png(mnist_images()[index])
            entry = tarfile.TarInfo(f"{index}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    whole = (tmp_path / "x.tar").read_bytes()
    assert _job(server, [tmp_path / "x.tar"], tmp_path / "good").tally.rows == 30
    third = whole.index(b"11.png")
    flipped = bytearray(whole)
    flipped[third] ^= 1
    for name, content in (("cut", whole[:third]), ("flipped", bytes(flipped))):
        (tmp_path / f"{name}.tar").write_bytes(content)
        with pytest.raises(ScoringError, match=r"damaged or cut off after 11 pictures|not a readable tar archive"):
            _job(server, [tmp_path / f"{name}.tar"], tmp_path / name)


def test_a_cut_gzip_keeps_the_same_rows_whatever_the_batch(server: ServerProcess, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(mnist.IMAGES.read_bytes()[:400_000])
    good = []
    for batch in (100, 512, 3000):
        summary = _job(server, [cut], tmp_path / str(batch), batch=batch)
        good.append(summary.tally.rows - summary.tally.bad_rows)
        assert summary.tally.reasons == {"the file ends early": summary.tally.bad_rows}
    assert len(set(good)) == 1
    assert good[0] > 1000


def test_labels_that_are_no_classes_and_outputs_inside_inputs_are_refused_at_once(
    server: ServerProcess, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", mnist_images()[:20])
    np.save(tmp_path / "labels.npy", np.arange(20))
    with pytest.raises(ScoringError, match="labels from 0 to 19; the model's classes are 0 to 9"):
        _job(server, [tmp_path / "x.npy"], tmp_path / "o", labels=str(tmp_path / "labels.npy"))
    folder = write_class_folders(tmp_path / "digits", per_class=2)
    with pytest.raises(ScoringError, match="lies in the input"):
        _job(server, [folder], folder / "answers")


def test_trouble_with_an_object_store_is_a_sentence(server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", mnist_images()[:5])
    nowhere = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    result = run("mlpserve", "--server", server.address, "score", tmp_path / "x.npy", "s3://b/out", env=nowhere)
    assert result.returncode == 1
    assert "s3://b/out" in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_travel_between_processes() -> None:
    import pickle

    import grpc

    from mlpserve_client import UnavailableError

    error = UnavailableError("away", grpc.StatusCode.UNAVAILABLE, "here:1", "", 2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.target, copy.retry_after) == (UnavailableError, "away", "here:1", 2.0)
