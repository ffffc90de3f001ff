"""Inputs that change while a job reads them: their parts fail by name, the others stay, and nothing says _SUCCESS."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mnist import mnist_images, mnist_labels
from support.processes import BIN, ServerProcess, run
from support.waiting import wait_until
from tests.support.pictures import png
from tests.support.scoring import score_job

from mlpserve_client.scoring import Endpoint, InputChangedError, Options, score
from mlpserve_client.scoring.files import File

ROWS, PART = 5_000, 250
FLAGS = ("--part-rows", PART, "--batch", 25, "--in-flight", 1)


def _digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class Job:
    """`mlpserve score`, stopped after its first parts so that what the test does is done in the middle of it."""

    def __init__(self, server: ServerProcess, output: Path, *arguments: object) -> None:
        command = [str(BIN / "mlpserve"), "--server", server.address, "score", *map(str, arguments)]
        self.output = output
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def has_parts() -> bool:
            assert self.process.poll() is None, "the job was over too soon"
            return len(list(output.glob("_part-*.json"))) >= 2

        wait_until(has_parts, "two parts are written", every=0.002)
        self.process.send_signal(signal.SIGSTOP)
        self.parts = len(list(output.glob("_part-*.json")))

    def go_on(self) -> tuple[int, str]:
        """Its exit status and standard error."""
        self.process.send_signal(signal.SIGCONT)
        _, errors = self.process.communicate(timeout=120)
        assert "Traceback" not in errors
        return self.process.returncode, errors


@contextmanager
def _job(server: ServerProcess, output: Path, *arguments: object) -> Iterator[Job]:
    job = Job(server, output, *arguments)
    try:
        yield job
    finally:
        if job.process.poll() is None:
            job.process.kill()
            job.process.communicate()


def _overwrite(path: Path) -> None:
    """Other content of the same size in place, and the old time of change: what size and time do not show."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:] = bytes(reversed(content[half:]))
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    shutil.copy2(path, other)
    other.rename(path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "overwritten in place": (_overwrite, "its time of change is as before"),
    "truncated": (_truncate, "bytes and has "),
    "replaced by another file": (_replace, "another file is in its place"),
    "removed": (Path.unlink, "it is gone"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_input_fails_its_parts_and_a_rerun_goes_on(server: ServerProcess, tmp_path: Path, how: str) -> None:
    change, words = CHANGES[how]
    first, second, output = tmp_path / "first.npy", tmp_path / "second.npy", tmp_path / "o"
    images = mnist_images()[:ROWS]
    np.save(first, images)
    np.save(second, images[:PART])
    shutil.copy2(first, tmp_path / "kept.npy")
    command = [first, second, output, *FLAGS]
    with _job(server, output, *command) as job:
        change(first)
        status, errors = job.go_on()
    assert status == 3, errors
    parts = ROWS // PART
    written = sorted(path.name for path in output.glob("part-*"))
    missing = [name for name in (f"part-{number:05}.parquet" for number in range(parts)) if name not in written]
    assert len(written) < parts
    assert f"{first} has changed while the job ran" in errors
    assert words in errors
    assert f"not written: {missing[0]} to {missing[-1]}, {len(missing)} parts" in errors
    assert "Put back what it held" in errors
    assert f"part-{parts:05}.parquet" in written, "the other input's part stays"
    assert not (output / "_SUCCESS").exists()
    expected = pq.read_table(output / written[0])["predicted"].to_pylist()
    # Put back, it goes on; the bytes are those of a job in which nothing happened.
    shutil.copy2(tmp_path / "kept.npy", first)
    again = run("mlpserve", "--server", server.address, "score", *command, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["parts_before"] == len(written)
    whole = score_job(server, [first, second], tmp_path / "whole", part_rows=PART, batch=25)
    assert whole.tally.bad_rows == 0
    assert _digest(output) == _digest(tmp_path / "whole")
    assert expected == pq.read_table(output / written[0])["predicted"].to_pylist()


def _tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for number in range(2000):
            content = png(mnist_images()[number])
            entry = tarfile.TarInfo(f"{number:05}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    for number in range(2000):
        (path / f"{number:05}.png").write_bytes(png(mnist_images()[number]))
    return path


def _parquet(path: Path) -> Path:
    images = [image.tobytes() for image in mnist_images()[:10_000]]
    pq.write_table(pa.table({"image": images}), path, row_group_size=1000, compression="none", use_dictionary=False)
    return path


@pytest.mark.parametrize(
    ("make", "victim", "change"),
    [
        (_tar, "", _overwrite),
        (_tar, "", _truncate),
        (_folder, "01990.png", _overwrite),
        (_folder, "01990.png", Path.unlink),
        (_folder, "new.png", lambda path: path.write_bytes(png(mnist_images()[0]))),
        (_parquet, "", _overwrite),
        (_parquet, "", _truncate),
    ],
    ids=["tar", "cut tar", "folder", "folder with one less", "folder with one more", "parquet", "cut parquet"],
)
def test_every_kind_of_input(
    server: ServerProcess, tmp_path: Path, make: Callable[[Path], Path], victim: str, change: Callable[[Path], object]
) -> None:
    name = {_tar: "x.tar", _folder: "x", _parquet: "x.parquet"}[make]
    source, output = make(tmp_path / name), tmp_path / "o"
    with _job(server, output, source, output, "--part-rows", 50, "--batch", 10, "--in-flight", 1) as job:
        change(source / victim if victim else source)
        status, errors = job.go_on()
    assert status == 3, errors
    assert f"{source} has changed while the job ran ({victim}" in errors
    assert not (output / "_SUCCESS").exists()


def test_labels_that_change_and_an_input_that_changes_after_its_last_part(
    server: ServerProcess, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", mnist_images()[: 2 * PART])
    np.save(tmp_path / "b.npy", mnist_images())
    labels = np.concatenate([mnist_labels()[: 2 * PART], mnist_labels()])
    np.save(tmp_path / "labels.npy", labels)
    output = tmp_path / "o"
    inputs = [tmp_path / "a.npy", tmp_path / "b.npy"]
    with _job(server, output, *inputs, output, "--labels", tmp_path / "labels.npy", *FLAGS) as job:
        _overwrite(tmp_path / "labels.npy")
        _overwrite(inputs[0])
        status, errors = job.go_on()
    assert status == 3, errors
    assert f"{inputs[0]} has changed while the job ran" in errors
    assert "its parts had been written before" in errors
    assert f"{tmp_path / 'labels.npy'} has changed while the job ran" in errors
    assert not (output / "_SUCCESS").exists()
    assert len(list(output.glob("part-*"))) == 2 + 10_000 // PART


def test_an_object_that_changes(server: ServerProcess, tmp_path: Path) -> None:
    import fsspec

    memory, root = fsspec.filesystem("memory"), str(tmp_path)

    def write(images: object) -> None:
        content = io.BytesIO()
        np.save(content, images)
        memory.pipe_file(f"{root}/x.npy", content.getvalue())  # whole at once, as a store puts it

    write(np.tile(mnist_images(), (2, 1, 1)))
    output = tmp_path / "o"

    def change() -> None:
        wait_until(lambda: list(output.glob("_part-*.json")), "the first part is written", every=0.001)
        write(np.tile(mnist_images()[::-1], (2, 1, 1)))

    changer = threading.Thread(target=change)
    changer.start()
    with pytest.raises(InputChangedError, match=r"x\.npy has changed while the job ran \(it was written again\); not"):
        score(Endpoint(server.address), [f"memory:/{root}/x.npy"], str(output), Options(part_rows=PART, batch=20))
    changer.join()
    assert not (output / "_SUCCESS").exists()


def test_between_two_runs_other_content_with_the_same_size_and_time_is_seen(
    server: ServerProcess, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", mnist_images()[:50])
    score_job(server, [tmp_path / "x.npy"], tmp_path / "o")
    shutil.copy2(tmp_path / "x.npy", tmp_path / "copy.npy")
    (tmp_path / "copy.npy").rename(tmp_path / "x.npy")
    assert score_job(server, [tmp_path / "x.npy"], tmp_path / "o").rows_now == 0  # a copy is the same input
    _overwrite(tmp_path / "x.npy")
    refused = run("mlpserve", "--server", server.address, "score", tmp_path / "x.npy", tmp_path / "o")
    assert refused.returncode == 1
    assert "x.npy has changed since" in refused.stderr


def test_what_is_no_file_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    result = run("mlpserve", "--server", server.address, "score", tmp_path / "x.npy", tmp_path / "o", timeout=30)
    assert result.returncode == 1
    assert "neither a file nor a folder" in result.stderr


@settings(max_examples=60, deadline=None)
@given(content=st.binary(min_size=1, max_size=300), other=st.binary(max_size=300), restored=st.booleans())
def test_any_writing_is_seen_and_reading_is_not(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, other: bytes, restored: bool
) -> None:
    path = tmp_path_factory.mktemp("state") / "file"
    path.write_bytes(content)
    file = File(str(path))
    assert file.open().close() is None
    assert path.read_bytes() == content
    assert file.changed() == ""
    before = path.stat()
    time.sleep(0.02)  # the file system's clock ticks every few milliseconds
    with path.open("r+b") as stream:
        stream.truncate(len(other))
        stream.write(other)
    if restored:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.changed() != ""


@pytest.mark.slow
def test_an_input_that_changes_under_a_ray_cluster(server: ServerProcess, tmp_path: Path) -> None:
    first, second, output = tmp_path / "first.npy", tmp_path / "second.npy", tmp_path / "o"
    np.save(first, np.tile(mnist_images(), (6, 1, 1)))
    np.save(second, mnist_images()[:PART])
    with _job(server, output, first, second, output, "--part-rows", 500, "--batch", 50, "--ray", "local") as job:
        job.process.send_signal(signal.SIGCONT)  # its workers are processes of their own
        _truncate(first)
        status, errors = job.go_on()
    assert status == 3, errors
    assert f"{first} has changed while the job ran" in errors
    assert "part-00120.parquet" in {path.name for path in output.glob("part-*")}, "the other input's part stays"
    assert not (output / "_SUCCESS").exists()


def test_an_output_that_is_removed_while_the_job_runs(server: ServerProcess, tmp_path: Path) -> None:
    """The job says what has happened, and the same command goes on with what is missing."""
    images, output = tmp_path / "images.npy", tmp_path / "out"
    np.save(images, mnist_images()[:ROWS])
    job = Job(server, output, images, output, *FLAGS)
    shutil.rmtree(output)
    code, errors = job.go_on()
    assert code == 1
    assert "removed" in errors or "cannot be written" in errors
    assert "cluster" not in errors
    again = run("mlpserve", "--server", server.address, "score", images, output, *FLAGS)
    assert again.returncode == 0, again.stderr
    assert len(pq.read_table(output)) == ROWS
    assert (output / "_SUCCESS").exists()
