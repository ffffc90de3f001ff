"""Bearer tokens on real connections: who is let in, renewal without a restart, and files that are lost or spoilt."""

import hashlib
import os
import queue
import re
import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import predict_code, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, run, scrape
from support.waiting import wait_until

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client, UnauthenticatedError
from mlpserve_server.config import ServerConfig
from mlpserve_server.host import unread_files
from mlpserve_server.server import Server
from mlpserve_server.transports import watched_files
from mlpserve_server.transports.tokens import Tokens

IMAGE = pb.PredictRequest(images=bytes(784))
RENEWAL_SECONDS = 15


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    write_tokens(path, "first", "second")
    return path


def write_tokens(path: Path, *tokens: str) -> None:
    lines = [f"{hashlib.sha256(token.encode()).hexdigest()}  of {index}" for index, token in enumerate(tokens)]
    fresh = path.with_suffix(".new")
    fresh.write_text("# callers\n\n" + "\n".join(lines) + "\n")
    fresh.rename(path)


def test_tokens_let_in_and_are_revoked_without_a_restart(
    store: Path, transport: str, tokens: Path, tmp_path: Path
) -> None:
    with (
        ServerProcess(tmp_path, store, "--transport", transport, "--tokens", tokens) as process,
        stub(process.address) as caller,
        grpc.insecure_channel(process.address) as channel,
    ):
        assert predict_code(caller, ("authorization", "Bearer first")) is grpc.StatusCode.OK
        assert predict_code(caller, ("authorization", "bearer second")) is grpc.StatusCode.OK
        assert predict_code(caller, ("authorization", "  Bearer   second ")) is grpc.StatusCode.OK
        for metadata in (
            [],
            [("authorization", "Bearer wrong")],
            [("authorization", "Bearer ")],
            [("authorization", "first")],
            [("authorization", "Basic first")],
            [("authorization", f"Bearer {hashlib.sha256(b'first').hexdigest()}")],
            [("x-authorization", "Bearer first")],
        ):
            assert predict_code(caller, *metadata) is grpc.StatusCode.UNAUTHENTICATED, metadata
        for method, request in (("GetModel", pb.GetModelRequest()), ("ListModels", pb.ListModelsRequest())):
            with pytest.raises(grpc.RpcError) as refused:
                getattr(caller, method)(request, timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "mnist" not in refused.value.details()
        reflection = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as refused:
            next(reflection(iter([b"\x3a\x00"]), timeout=10))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING

        write_tokens(tokens, "second")
        wait_until(
            lambda: predict_code(caller, ("authorization", "Bearer first")) is not grpc.StatusCode.OK,
            "the first token is refused",
            RENEWAL_SECONDS,
        )
        assert predict_code(caller, ("authorization", "Bearer second")) is grpc.StatusCode.OK

        with Client(process.address, token="second") as client:
            answer = client.predict(mnist_images()[:300])
            assert len(answer) == 300
        with Client(process.address, token="first") as revoked, pytest.raises(UnauthenticatedError, match="token"):
            revoked.predict(mnist_images()[:3])
        token_file = tmp_path / "token"
        token_file.write_text("second\n")
        command = ("mlpserve", "--server", process.address)
        assert run(*command, "--token-file", token_file, "info").returncode == 0
        denied = run(*command, "info")
        assert (denied.returncode, "token" in denied.stderr) == (1, True)


def test_no_call_waits_for_a_token_file_that_cannot_be_read(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO that nobody writes to, in place of a file on a network mount that has died."""
    monkeypatch.setattr(watched_files, "LOOK_SECONDS", 0.0)
    known = Tokens(str(tokens))
    tokens.unlink()
    os.mkfifo(tokens)
    accepted = queue.SimpleQueue[bool]()

    def accept() -> None:
        for _ in range(20):
            accepted.put(known.find([("authorization", "Bearer first")]) is not None)

    threading.Thread(target=accept, daemon=True).start()
    assert all(accepted.get(timeout=10) for _ in range(20))
    with tokens.open("w") as fifo:  # it answers again, with another token
        fifo.write(f"{hashlib.sha256(b'third').hexdigest()} third\n")
    wait_until(
        lambda: known.find([("authorization", "Bearer third")]) is not None, "the third token is known", RENEWAL_SECONDS
    )
    assert known.find([("authorization", "Bearer first")]) is None


@pytest.mark.parametrize("how", ["removed", "unreadable"])
def test_a_token_file_that_is_lost_is_said_and_counted(
    how: str, store: Path, transport: str, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_files, "LONG_SECONDS", 0.5)
    monkeypatch.setattr(watched_files, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(unread_files, "_names", set())  # other tests of this process leave some
    listen = f"127.0.0.1:{free_port()}"
    config = ServerConfig(
        store=store, listen="127.0.0.1:0", transport=transport, tokens=str(tokens), metrics_listen=listen
    )
    with Server(config) as server, stub(server.address) as caller:

        def unread() -> float:
            assert predict_code(caller, ("authorization", "Bearer first")) is grpc.StatusCode.OK, (
                "those who are known stay"
            )
            return scrape(listen)["mlpserve_unread_files"]

        assert unread() == 0
        if how == "removed":
            tokens.unlink()
        else:
            tokens.write_bytes(b"\xff\xff")
        wait_until(lambda: unread() == 1, "the metric says so", RENEWAL_SECONDS)
        write_tokens(tokens, "first", "second")
        wait_until(lambda: unread() == 0, "it is well again", RENEWAL_SECONDS)
        assert predict_code(caller, ("authorization", "Bearer second")) is grpc.StatusCode.OK


def test_a_spoilt_token_file_is_refused_at_the_start_and_ignored_later(
    store: Path, tokens: Path, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, store, "--tokens", tokens) as process, stub(process.address) as caller:
        tokens.write_text("secret-in-the-clear\n")

        def is_told() -> bool:
            assert predict_code(caller, ("authorization", "Bearer first")) is grpc.StatusCode.OK
            return "the tokens stay as they were" in process.log

        wait_until(is_told, "the log says that the tokens stay as they were", RENEWAL_SECONDS)
        assert "secret-in-the-clear" not in process.log
    result = run("mlpserve-server", "--store", store, "--listen", "127.0.0.1:0", "--tokens", tokens)
    assert result.returncode == 1
    assert re.search(r"line 1: expected a token's SHA-256", result.stderr)
    assert "secret-in-the-clear" not in result.stderr
