"""A job as a whole: parts, going on after anything, other inputs or models, a second version."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import mnist
from support.mnist import mnist_images
from support.processes import BIN, ServerProcess, free_port, run
from support.waiting import wait_until
from tests.support.artifacts import publish_rolled
from tests.support.pictures import png
from tests.support.scoring import score_job

from mlpserve_client.scoring import Endpoint, Options, ScoringError, score


def _digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


# --- inputs --------------------------------------------------------------------------------------------------------


def test_several_inputs_of_several_kinds_in_parts(server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", mnist_images()[:100])
    np.savez_compressed(tmp_path / "b.npz", images=mnist_images()[100:150])
    pq.write_table(pa.table({"image": [image.tobytes() for image in mnist_images()[150:250]]}), tmp_path / "c.parquet")
    with tarfile.open(tmp_path / "d.tar.gz", "w:gz") as archive:
        for index in range(250, 280):
            content = png(mnist_images()[index])
            for name, data in ((f"{index}.png", content), (f"{index}.txt", b"a note")):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    summary = score_job(server, [tmp_path / "[a-d].*"], tmp_path / "o", part_rows=40, batch=16)
    assert (summary.tally.rows, summary.tally.bad_rows, summary.parts) == (280, 0, 3 + 2 + 3 + 1)
    table = pq.read_table(tmp_path / "o")
    assert table["row"].to_pylist() == list(range(280))
    whole = score_job(server, [mnist.IMAGES], tmp_path / "all")
    assert whole.tally.rows == 10_000
    assert table["predicted"].to_pylist() == pq.read_table(tmp_path / "all")["predicted"].to_pylist()[:280]
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
    summary = score_job(server, [tmp_path / "shards"], tmp_path / "o", part_rows=20)
    assert (summary.tally.rows, summary.parts) == (150, 9)
    answers = pq.read_table(tmp_path / "o")["predicted"].to_pylist()
    expected = score_job(server, [mnist.IMAGES], tmp_path / "all")
    assert expected.tally.bad_rows == 0
    assert answers == pq.read_table(tmp_path / "all")["predicted"].to_pylist()[:150]


def test_inputs_and_output_through_fsspec(server: ServerProcess, tmp_path: Path) -> None:
    import fsspec

    memory, root = fsspec.filesystem("memory"), str(tmp_path)
    with memory.open(f"{root}/in/a.npy", "wb") as file:
        np.save(file, mnist_images()[:90])
    pq.write_table(pa.table({"image": [image.tobytes() for image in mnist_images()[90:120]]}), tmp_path / "b.parquet")
    memory.put(str(tmp_path / "b.parquet"), f"{root}/in/b.parquet")
    job = (Endpoint(server.address), [f"memory:/{root}/in/*"], f"memory:/{root}/out", Options(part_rows=50))
    summary = score(*job)
    assert (summary.tally.rows, summary.parts) == (120, 3)
    names = {Path(name).name for name in memory.ls(f"{root}/out", detail=False)}
    assert {"_SUCCESS", "_job.json", "part-00002.parquet"} <= names
    again = score(*job)
    assert (again.parts_before, again.rows_now) == (3, 0)
    with memory.open(f"{root}/in/a.npy", "wb") as file:
        np.save(file, mnist_images()[90:180])
    with pytest.raises(ScoringError, match=r"a\.npy has changed since"):
        score(*job)


# --- going on ------------------------------------------------------------------------------------------------------


def test_a_job_run_twice_does_nothing_twice(server: ServerProcess, tmp_path: Path) -> None:
    first = score_job(server, [mnist.IMAGES], tmp_path / "o", part_rows=1000, labels=str(mnist.LABELS))
    before = _digest(tmp_path / "o")
    second = score_job(server, [mnist.IMAGES], tmp_path / "o", part_rows=1000, labels=str(mnist.LABELS))
    assert (first.rows_now, second.rows_now, second.parts_before) == (10_000, 0, 10)
    assert second.tally == first.tally
    assert _digest(tmp_path / "o") == before


@pytest.mark.parametrize("missing", ["part-00003.parquet", "_part-00003.json", "_SUCCESS"])
def test_what_is_missing_or_damaged_is_made_again_with_the_same_bytes(
    server: ServerProcess, tmp_path: Path, missing: str
) -> None:
    score_job(server, [mnist.IMAGES], tmp_path / "o", part_rows=2000)
    before = _digest(tmp_path / "o")
    (tmp_path / "o" / missing).unlink()
    if missing.startswith("part"):
        (tmp_path / "o/part-00001.parquet").write_bytes(b"PAR1")
    again = score_job(server, [mnist.IMAGES], tmp_path / "o", part_rows=2000)
    assert again.rows_now == {"part-00003.parquet": 4000, "_part-00003.json": 2000, "_SUCCESS": 0}[missing]
    assert _digest(tmp_path / "o") == before


def _start(server: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [str(BIN / "mlpserve"), "--server", server, "score", *map(str, arguments)]
    # What a shell starts in the background ignores SIGINT, and so would a job that these tests interrupt.
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heed)  # type: ignore[call-overload,no-any-return]


def _wait_for_parts(folder: Path, count: int, process: "subprocess.Popen[str]") -> None:
    wait_until(
        lambda: len(list(folder.glob("_part-*.json"))) >= count or process.poll() is not None,
        f"{count} parts are written",
        every=0.002,
    )


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
    assert "interrupted; run the same command again to resume" in errors
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
            score_job(server, [many], tmp_path / "o", part_rows=500)
        process.kill()


# --- what has changed ----------------------------------------------------------------------------------------------


def test_another_input_or_setting_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    source = tmp_path / "x.npy"
    np.save(source, mnist_images()[:50])
    score_job(server, [source], tmp_path / "o")
    with pytest.raises(ScoringError, match=r"it had other settings: part rows.*or give --overwrite"):
        score_job(server, [source], tmp_path / "o", part_rows=10)
    with pytest.raises(ScoringError, match="it had other inputs"):
        score_job(server, [source, source], tmp_path / "o")
    np.save(source, mnist_images()[50:100])
    os.utime(source, (1, 1))
    with pytest.raises(ScoringError, match=r"x\.npy has changed since"):
        score_job(server, [source], tmp_path / "o")
    score_job(server, [source], tmp_path / "o", overwrite=True)
    expected = pq.read_table(tmp_path / "o")["predicted"].to_pylist()
    score_job(server, [source], tmp_path / "p")
    assert pq.read_table(tmp_path / "p")["predicted"].to_pylist() == expected


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
        fresh = score_job(server, [many], tmp_path / "fresh")
        assert fresh.model.version == 2
        shifted = (np.array(table["predicted"]).astype(int) + 2) % 10
        assert np.array_equal(np.array(pq.read_table(tmp_path / "fresh")["predicted"]).astype(int), shifted)
        # The second version as a shadow run before promotion, or after it: both answer.
        both = score_job(server, [many], tmp_path / "both", compare=1, part_rows=10_000)
        assert sum(both.tally.disagreements.values()) == 60_000
        rows = pq.read_table(tmp_path / "both")
        assert rows["other_predicted"].equals(table["predicted"])
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


# --- elsewhere -----------------------------------------------------------------------------------------------------


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
