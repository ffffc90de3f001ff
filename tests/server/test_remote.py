"""A store in object storage, on a real S3 server: served, followed, promoted, and refused in words."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import json_format
from support.grpc_calls import stub, wait_for_version
from support.mnist import mnist_images, mnist_labels
from support.processes import ServerProcess, free_port, run
from support.waiting import wait_until
from tests.support.artifacts import publish_many, publish_rolled

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import Manifest
from mlpserve_server.errors import ConfigError
from mlpserve_server.store.folder import Store
from mlpserve_server.store.object_storage import RemoteStore, open_store
from mlpserve_server.store.summaries import Summaries

BUCKET = "models"
URL = f"s3://{BUCKET}/published"


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, str]]:
    """An S3 server with an empty bucket; the environment by which clients find it."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            assert process.poll() is None
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=2):
                return True

        wait_until(answers, "the S3 server answers", not_yet=(OSError,))
        before = os.environ.copy()
        os.environ.update(environment)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield environment
        os.environ.clear()
        os.environ.update(before)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def versions(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local store with versions 1 to 3, and 4, whose weights were tampered with."""
    own = tmp_path_factory.mktemp("versions") / "store"
    shutil.copytree(store, own)
    for number in (2, 3):
        publish_rolled(own / "mnist/1", own, number)
    publish_rolled(own / "mnist/1", own, 4, broken="tampered")
    return own


def _push(versions: Path, number: int) -> None:
    result = run("mlpserve-store", "--store", versions, "push", "mnist", number, "--to", URL)
    assert result.returncode == 0, result.stderr
    assert f"mnist version {number} is in {URL}" in result.stdout


@pytest.mark.usefixtures("storage")
def test_a_server_serves_and_follows(versions: Path, store: Path, transport: str, tmp_path: Path) -> None:
    boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
    _push(versions, 1)
    with (
        ServerProcess(tmp_path, URL, "--transport", transport, "--poll", 0.2) as process,  # type: ignore[arg-type]
        stub(process.address) as caller,
    ):
        assert caller.GetModel(pb.GetModelRequest(), timeout=10).model.digest == Store(store).open("mnist").digest
        _push(versions, 2)
        wait_for_version(caller, 2)
        promoted = run("mlpserve-store", "--store", URL, "promote", "mnist", 1)
        assert promoted.returncode == 0, promoted.stderr
        wait_for_version(caller, 1)
        assert run("mlpserve-store", "--store", URL, "follow-newest", "mnist").returncode == 0
        wait_for_version(caller, 2)
        # A tampered version is refused; the one after it is taken.
        folder = versions / "mnist/4"
        client = boto3.client("s3")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                client.upload_file(str(path), BUCKET, f"published/mnist/4/{path.relative_to(folder)}")
        process.wait_for_log("version 4 is refused")
        listed = caller.ListModels(pb.ListModelsRequest(), timeout=20).models
        assert [(m.model.version, m.state) for m in listed] == [
            (4, pb.MODEL_STATE_REFUSED),
            (2, pb.MODEL_STATE_SERVING),
            (1, pb.MODEL_STATE_KEPT),
        ]
        process.terminate()
        assert process.wait() == 0
        assert "Traceback" not in process.log


@pytest.mark.usefixtures("storage")
def test_two_workers(versions: Path, tmp_path: Path) -> None:
    boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
    _push(versions, 3)
    with ServerProcess(tmp_path, URL, "--workers", 2) as process, stub(process.address) as caller:  # type: ignore[arg-type]
        assert caller.Predict(pb.PredictRequest(images=bytes(784)), timeout=10).model.version == 3


@pytest.mark.usefixtures("storage")
def test_listing_verifying_and_pushing_twice(versions: Path) -> None:
    boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
    _push(versions, 1)
    again = run("mlpserve-store", "--store", versions, "push", "mnist", 1, "--to", URL)
    assert (again.returncode, "has version 1 of 'mnist' already" in again.stderr) == (1, True)
    verified = run("mlpserve-store", "--store", URL, "verify", "mnist")
    assert "every file matches its SHA-256" in verified.stdout
    assert "newest" in run("mlpserve-store", "--store", URL, "list", "mnist").stdout


@pytest.mark.usefixtures("storage")
def test_only_what_the_manifest_lists_is_fetched(versions: Path, tmp_path: Path) -> None:
    """A key is a name from outside: it must not say where on this machine a file is written."""
    boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
    _push(versions, 1)
    client = boto3.client("s3")
    escaped = tmp_path / "escaped"
    copies = tmp_path / "copies"
    copies.mkdir()
    for key in (f"{'../' * 30}{str(escaped)[1:]}", f"/{escaped}", "extra.onnx", "pictures/extra.png"):
        client.put_object(Bucket=BUCKET, Key=f"published/mnist/1/{key}", Body=b"ssh-rsa x")
    environment = {"TMPDIR": str(copies)}
    assert run("mlpserve-store", "--store", URL, "verify", "mnist", env=environment).returncode == 0
    os.environ["TMPDIR"] = str(copies)
    try:
        with ServerProcess(tmp_path, URL) as process:  # type: ignore[arg-type]
            assert not escaped.exists()
            (copy,) = copies.glob("mlpserve-store-*/mnist/1")
            published = {str(path.relative_to(versions / "mnist/1")) for path in (versions / "mnist/1").rglob("*")}
            assert {str(path.relative_to(copy)) for path in copy.rglob("*")} == published
            process.terminate()
            assert process.wait() == 0
        assert not list(copies.iterdir())
    finally:
        del os.environ["TMPDIR"]


@pytest.mark.usefixtures("storage")
def test_objects_that_are_not_what_the_manifest_says(versions: Path, tmp_path: Path) -> None:
    boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
    client = boto3.client("s3")
    for number in (1, 2, 3):
        _push(versions, number)
    client.put_object(Bucket=BUCKET, Key="published/mnist/3/golden.binpb", Body=bytes(20 << 20))
    client.delete_object(Bucket=BUCKET, Key="published/mnist/2/model.onnx")
    for number, words in ((3, "golden.binpb is damaged: it does not have the"), (2, "model.onnx cannot be read")):
        result = run("mlpserve-store", "--store", URL, "verify", "mnist", number)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr
    with ServerProcess(tmp_path, URL) as process:  # type: ignore[arg-type]
        assert "version 3 is refused, version 1 is served instead" in process.log
        assert "version 2 is refused, version 1 is served instead" in process.log
    # A manifest that lists a name outside; and one that never ends.
    manifest = json_format.Parse((versions / "mnist/1/manifest.json").read_bytes(), Manifest())
    manifest.version = 4
    manifest.files[0].path = "../../../escaped"
    content = json_format.MessageToJson(manifest).encode()
    checksum = f"{hashlib.sha256(content).hexdigest()}  manifest.json\n".encode()
    for number, manifest_json, words in ((4, content, "outside the artifact"), (5, b" " * (2 << 20), "is larger than")):
        client.put_object(Bucket=BUCKET, Key=f"published/mnist/{number}/manifest.json", Body=manifest_json)
        client.put_object(Bucket=BUCKET, Key=f"published/mnist/{number}/manifest.sha256", Body=checksum)
        result = run("mlpserve-store", "--store", URL, "verify", "mnist", number)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr
    client.put_object(Bucket=BUCKET, Key="published/mnist/promoted.json", Body=b" " * (1 << 20))
    result = run("mlpserve-store", "--store", URL, "list", "mnist")
    assert (result.returncode, "cannot be read as a promotion" in result.stderr) == (1, True), result.stderr


@pytest.mark.usefixtures("storage")
def test_how_often_the_storage_is_asked(versions: Path, tmp_path: Path) -> None:
    """Each question takes tens of milliseconds and costs money, so no more are asked than a version needs."""
    boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
    own = Path(shutil.copytree(versions, tmp_path / "own"))
    publish_many(own / "mnist/1", own, range(10, 40))
    client = boto3.client("s3")
    for path in own.rglob("manifest.*"):
        client.upload_file(str(path), BUCKET, f"published/{path.relative_to(own)}")
    store = RemoteStore(URL)
    asked: list[str] = []
    store._files.s3.meta.events.register("before-send.s3", lambda request, **_: asked.append(request.url))
    numbers = store.versions("mnist")
    assert numbers == [*range(39, 9, -1), 4, 3, 2, 1]
    assert len(asked) == 1
    asked.clear()
    assert store.open("mnist", 17).manifest.version == 17
    assert len(asked) == 2, asked
    asked.clear()
    summaries = Summaries(store, "mnist")
    found = summaries.of(numbers)
    assert len(asked) == 2 * len(numbers)
    asked.clear()
    assert summaries.of(numbers) == found
    assert asked == []


@pytest.mark.usefixtures("storage")
def test_only_what_was_published_is_pushed(versions: Path, tmp_path: Path) -> None:
    """A link in a store must not carry another file of the person who pushes to everybody."""
    boto3.resource("s3").Bucket(BUCKET).objects.all().delete()
    own = Path(shutil.copytree(versions, tmp_path / "own"))
    (own / "mnist/1/extra").symlink_to("/etc/hostname")
    _push(own, 1)
    keys = [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert "published/mnist/1/model.onnx" in keys
    assert not [key for key in keys if "extra" in key]
    (own / "mnist/2/golden.binpb").unlink()
    (own / "mnist/2/golden.binpb").symlink_to("/etc/hostname")
    result = run("mlpserve-store", "--store", own, "push", "mnist", 2, "--to", URL)
    assert (result.returncode, "leads out of the version" in result.stderr) == (1, True), result.stderr


@pytest.mark.usefixtures("storage")
@pytest.mark.usefixtures("storage")
def test_a_scoring_job_reads_and_writes_object_storage(store: Path, tmp_path: Path) -> None:
    """The command of docs/scoring.md: days of Parquet files in a bucket, answers into the bucket."""
    client = boto3.client("s3")
    for day, images in (("1", mnist_images()[:40]), ("2", mnist_images()[40:60])):
        labels = mnist_labels()[:40] if day == "1" else mnist_labels()[40:60]
        table = pa.table({"image": [image.tobytes() for image in images], "label": labels.tolist()})
        pq.write_table(table, tmp_path / "rows.parquet")
        client.upload_file(str(tmp_path / "rows.parquet"), BUCKET, f"rows/day={day}/rows.parquet")
    job = (f"s3://{BUCKET}/rows/day=*/*.parquet", f"s3://{BUCKET}/answers", "--label-column", "label")
    with ServerProcess(tmp_path, store) as process:
        scored = run("mlpserve", "--server", process.address, "score", *job)
    assert scored.returncode == 0, scored.stderr
    assert re.search(r"Scored 60 rows .* into s3://models/answers\n", scored.stdout)
    assert re.search(r"Accuracy [\d.]+% of 60,", scored.stdout)
    names = {entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET, Prefix="answers/")["Contents"]}
    assert {"answers/part-00000.parquet", "answers/part-00001.parquet", "answers/_SUCCESS"} <= names


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://nothing-here/x", "no model 'mnist' in s3://nothing-here/x"),
        ("s3://models/empty", "no model 'mnist' in s3://models/empty"),
        ("nonsense://x", "Protocol not known: nonsense"),
    ],
)
def test_stores_that_are_not_there(url: str, message: str) -> None:
    result = run("mlpserve-server", "--store", url, "--listen", "127.0.0.1:0")
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_storage_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    result = run("mlpserve-server", "--store", "s3://models/x", "--listen", "127.0.0.1:0")
    assert result.returncode == 1
    assert "--store s3://models/x: " in result.stderr
    assert "Traceback" not in result.stderr


def test_kinds_of_stores(tmp_path: Path) -> None:
    assert type(open_store(tmp_path)) is Store
    assert type(open_store(f"file://{tmp_path}")) is Store  # its files are refused as a folder's are
    assert type(open_store(f"memory://{tmp_path}")) is RemoteStore
    with pytest.raises(ConfigError, match="fsspec"):
        open_store("nonsense://x")
