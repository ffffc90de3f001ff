"""What a caller reads when a call fails: what is wrong and what to do, before gRPC's own text."""

import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from support.processes import BIN, ServerProcess, free_port, run
from tests.support.clients import Call
from tests.support.liar import Liar

from mlpserve_client import (
    DeadlineExceededError,
    InvalidInputError,
    ServerError,
    Tls,
    UnauthenticatedError,
    UnavailableError,
)
from mlpserve_client.connection.proxies import proxy_of

AUTHORITY = trustme.CA()
TRUSTED = AUTHORITY.cert_pem.bytes()
ONCE = {"retries": 0, "timeout": 5.0}


@pytest.fixture(scope="module")
def secure() -> Iterator[str]:
    """A gRPC server with TLS."""
    yield from _secure()


@pytest.fixture(scope="module")
def mutual() -> Iterator[str]:
    """A gRPC server that wants the caller's certificate."""
    yield from _secure(TRUSTED)


def _secure(callers: bytes | None = None) -> Iterator[str]:
    own = AUTHORITY.issue_cert("127.0.0.1")
    pair = (own.private_key_pem.bytes(), b"".join(part.bytes() for part in own.cert_chain_pems))
    server = grpc.server(futures.ThreadPoolExecutor(2))
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([pair], callers, require_client_auth=callers is not None)
    )
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def website() -> Iterator[str]:
    """A web server, which is no gRPC server, and no proxy either."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign,assignment]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def _failure(call: Call, target: str, **options: Any) -> ServerError:
    with pytest.raises(ServerError) as caught:
        call(target, "get_model", options={**ONCE, **options})
    assert str(caught.value).startswith(f"{target}: ")
    return caught.value


def test_nothing_listens(call: Call) -> None:
    error = _failure(call, f"127.0.0.1:{free_port()}")
    assert isinstance(error, UnavailableError)
    assert "nothing listens there: start the server, or check the address and the port. gRPC says:" in str(error)
    assert "Connection refused" in str(error)


def test_no_such_socket(call: Call, tmp_path: Path) -> None:
    assert "there is no such socket: start the server" in str(_failure(call, f"unix:{tmp_path}/none.sock"))


def test_a_name_that_has_no_address(call: Call) -> None:
    assert "this name has no address: check its spelling" in str(_failure(call, "mlpserve.invalid:50051"))


def test_a_port_left_out(call: Call) -> None:
    """Where something listens on 443 the sentence is another one, and so is the remark's place."""
    assert "no port was given, and gRPC takes 443" in str(_failure(call, "127.254.254.254"))


def test_something_else_listens(call: Call, website: str) -> None:
    assert "something else than a gRPC server listens there: check the port" in str(_failure(call, website))


def test_another_grpc_service(call: Call) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    error = _failure(call, target)
    server.stop(None).wait()
    assert "a gRPC server answers there, but not one of mlpserve" in str(error)


def test_plaintext_to_tls(call: Call, secure: str) -> None:
    assert "the server may want TLS (--tls or --tls-ca FILE, tls=Tls(…) in Python)" in str(_failure(call, secure))


def test_tls_to_plaintext(call: Call) -> None:
    with Liar() as server:
        error = _failure(call, server.address, tls=Tls(TRUSTED))
    assert "the server there does not speak TLS: connect without it" in str(error)


def test_an_authority_that_is_not_trusted(call: Call, secure: str) -> None:
    for tls in (Tls(), Tls(ca=trustme.CA().cert_pem.bytes())):
        assert "signed by no authority that this caller trusts" in str(_failure(call, secure, tls=tls))


def test_a_certificate_for_another_name(call: Call, secure: str) -> None:
    error = _failure(call, secure, tls=Tls(TRUSTED, server_name="models.example"))
    assert "the server's certificate is for another name" in str(error)
    assert "--tls-server-name" in str(error)


def test_a_server_that_wants_the_callers_certificate(call: Call, mutual: str) -> None:
    assert "may want the caller's certificate (--tls-cert and --tls-key" in str(
        _failure(call, mutual, tls=Tls(TRUSTED))
    )


@pytest.mark.parametrize("form", [str, Path, bytes])
def test_tls_takes_paths_and_content(call: Call, mutual: str, tmp_path: Path, form: type) -> None:
    """The call gets as far as the service, which is not one of mlpserve."""
    own = AUTHORITY.issue_cert("caller")
    parts = {
        "ca": TRUSTED,
        "cert": b"".join(part.bytes() for part in own.cert_chain_pems),
        "key": own.private_key_pem.bytes(),
    }
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    given = parts if form is bytes else {name: form(tmp_path / name) for name in parts}
    tls = Tls(**given)
    assert _failure(call, mutual, tls=tls).code is grpc.StatusCode.UNIMPLEMENTED
    assert "PRIVATE" not in repr(tls)


def test_files_that_are_no_certificates(call: Call, tmp_path: Path) -> None:
    (tmp_path / "ca.der").write_bytes(b"0\x82")
    for ca, words in ((tmp_path / "ca.der", "ca.der holds no certificate; expected PEM"), (b"", "bytes holds no")):
        with pytest.raises(InvalidInputError, match=words):
            call("127.0.0.1:1", "get_model", options={"tls": Tls(ca)})
    with pytest.raises(InvalidInputError, match="holds no private key; expected PEM"):
        call("127.0.0.1:1", "get_model", options={"tls": Tls(TRUSTED, cert=TRUSTED, key=TRUSTED)})


@pytest.mark.parametrize(
    ("token", "words"),
    [("", "wants a token, and none was given: --token-file FILE"), ("wrong", "does not accept this token")],
)
def test_tokens(call: Call, token: str, words: str) -> None:
    with Liar() as server:
        server.fail = lambda _, __, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        error = _failure(call, server.address, token=token)
    assert isinstance(error, UnauthenticatedError)
    assert words in str(error)
    assert str(error).endswith("The server says: who are you?")


def test_a_deadline(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = _failure(call, f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
    assert isinstance(error, DeadlineExceededError)
    assert "no answer within 0.3 s: give the call longer (--timeout, timeout=…)" in str(error)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://models.example:50051/v1", "is a URL; expected HOST:PORT, here 'models.example:50051'"),
        ("https://models.example", r"here 'models.example' with tls=Tls\(\)"),
        ("127.0.0.1:99999", "a port that cannot be; expected 1 to 65535"),
        ("localhost:0", "a port that cannot be"),
    ],
)
def test_targets_that_cannot_be(call: Call, target: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        call(target, "get_model")


@pytest.mark.parametrize("kind", ["http_proxy", "grpc_proxy", "https_proxy"])
def test_a_proxy_is_named_and_its_password_is_not(
    call: Call, website: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kind, f"http://me:secret@{website}")
    error = str(_failure(call, "mlpserve.invalid:50051"))
    assert f"the call goes through the proxy that ${kind} ({website}) names" in error
    assert "secret" not in error
    monkeypatch.setenv("no_proxy", "other.example, .invalid")
    assert "proxy" not in str(_failure(call, "mlpserve.invalid:50051"))


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,models.example")
    named = "$https_proxy (http://proxy.example:3128)"
    for target in ("127.0.0.1:1", "localhost:1", "unix:/run/x.sock", "10.3.2.1:1", "eu.models.example:1"):
        assert proxy_of(target) == "", target
    for target in ("11.3.2.1:1", "models.example.org:1", "dns:///other:1", "ipv4:10.0.0.1:1,11.0.0.1:1"):
        assert proxy_of(target) == named, target
    monkeypatch.delenv("https_proxy")
    assert proxy_of("other:1") == ""


def test_doctor_names_the_proxy() -> None:
    dead = {"http_proxy": f"http://127.0.0.1:{free_port()}", "no_proxy": ""}
    result = run("mlpserve", "doctor", "--target", "mlpserve.invalid:50051", env=dead)
    assert f"calls to mlpserve.invalid:50051 go through $http_proxy ({dead['http_proxy']})" in result.stdout
    assert "export no_proxy=mlpserve.invalid" in result.stdout
    result = run("mlpserve", "doctor", "--target", f"127.0.0.1:{free_port()}", env=dead)
    assert "$http_proxy set; calls to 127.0.0.1" in result.stdout


def test_a_health_check_goes_through_no_proxy(store: Path, tmp_path: Path) -> None:
    dead = {"http_proxy": f"http://127.0.0.1:{free_port()}", "no_proxy": ""}
    with ServerProcess(tmp_path, store, env=dead) as process:
        check = run(BIN / "python", "-m", "mlpserve_server.healthcheck", process.address, env=dead)
        assert check.returncode == 0
        assert run("mlpserve", "--server", process.address, "info", env=dead).returncode == 0


def test_the_command_line_prints_the_sentence(secure: str) -> None:
    """Behind gRPC's own log, if its level asks for it."""
    result = run("mlpserve", "--server", secure, "--tls", "--timeout", 2, "info", env={"GRPC_VERBOSITY": "NONE"})
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"mlpserve: {secure}: the server's certificate is signed by no authority")
