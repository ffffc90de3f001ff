"""TLS and tokens."""

import hashlib
import socket
import ssl
import time

import grpc
import pytest
import trustme

from http2 import WAIT, Caller, message
from mlpserve_wire import Limits
from served import ECHO, HOT, OPEN, PIXELS, PREFIX, serving

OK, UNAUTHENTICATED = 0, 16
AUTHORITY = trustme.CA()
Material = tuple[bytes, bytes, bytes]


def material(authority: trustme.CA = AUTHORITY, clients: trustme.CA | None = None) -> Material:
    made = authority.issue_cert("localhost", "127.0.0.1")
    chain = b"".join(part.bytes() for part in made.cert_chain_pems)
    return chain, made.private_key_pem.bytes(), clients.cert_pem.bytes() if clients else b""


def context(*, protocols: list[str] | None = None, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    made = ssl.create_default_context()
    authority.configure_trust(made)
    if protocols is None:
        protocols = ["h2"]
    if protocols:
        made.set_alpn_protocols(protocols)
    return made


def secure_channel(address: str, *, client: trustme.LeafCert | None = None) -> grpc.Channel:
    key = client.private_key_pem.bytes() if client else None
    chain = client.cert_chain_pems[0].bytes() if client else None
    credentials = grpc.ssl_channel_credentials(AUTHORITY.cert_pem.bytes(), key, chain)
    return grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)])


def test_grpc_speaks_tls() -> None:
    with serving(tls=material()) as served, secure_channel(served.address) as channel:
        row = PREFIX + bytes([1]) * PIXELS
        assert channel.unary_unary(HOT)(row, timeout=WAIT) == bytes([PIXELS])
        assert channel.unary_unary(HOT)(b"x" * 1_000_000, timeout=WAIT) == b"object:" + b"x" * 1_000_000
        futures = [channel.unary_unary(HOT).future(row, timeout=WAIT) for _ in range(200)]
        assert {future.result() for future in futures} == {bytes([PIXELS])}
        assert served.plain == 201


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_of_tls(version: ssl.TLSVersion) -> None:
    wanted = context()
    wanted.minimum_version = wanted.maximum_version = version
    with serving(tls=material()) as served, Caller(served.address, wanted) as caller:
        assert caller.call(ECHO, message(b"x")).data == message(b"x")
        assert isinstance(caller.socket, ssl.SSLSocket)
        assert caller.socket.selected_alpn_protocol() == "h2"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_older_versions_of_tls_are_refused() -> None:
    wanted = context()
    wanted.set_ciphers("ALL:@SECLEVEL=0")
    wanted.minimum_version = wanted.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(tls=material()) as served:
        with pytest.raises(ssl.SSLError):
            Caller(served.address, wanted)
        served.wait_for_counter("failed_handshakes")


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
def test_other_protocols_are_refused(protocols: list[str]) -> None:
    with serving(tls=material()) as served:
        with pytest.raises((ssl.SSLError, AssertionError, OSError)):
            Caller(served.address, context(protocols=protocols))
        served.wait_for_counter("failed_handshakes")


def test_plaintext_is_refused_on_a_port_with_tls() -> None:
    with serving(tls=material()) as served:
        with pytest.raises((AssertionError, OSError)):
            Caller(served.address)
        served.wait_for_counter("failed_handshakes")


def test_a_tls_handshake_that_stalls_ends() -> None:
    with serving(Limits(handshake_seconds=0.3), tls=material()) as served, secure_channel(served.address) as channel:
        with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as silent:
            silent.sendall(b"\x16\x03\x01")
            assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"
            assert silent.recv(100) == b""
        served.wait_for_counter("failed_handshakes")


def test_callers_show_certificates() -> None:
    clients = trustme.CA()
    known, stranger = clients.issue_cert("client"), trustme.CA().issue_cert("client")
    with serving(tls=material(clients=clients)) as served:
        with secure_channel(served.address, client=known) as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"
        for client in (stranger, None):
            with secure_channel(served.address, client=client) as channel, pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(ECHO)(b"x", timeout=WAIT)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_certificates_are_renewed_while_it_serves() -> None:
    later = trustme.CA()
    with serving(tls=material()) as served, Caller(served.address, context()) as before:
        served.wire.set_tls(*material(later))
        with pytest.raises(ssl.SSLCertVerificationError):
            Caller(served.address, context())
        with Caller(served.address, context(authority=later)) as after:
            assert after.call(ECHO, message(b"x")).status == OK
        assert before.call(ECHO, message(b"x")).status == OK, "a connection keeps what it has"


def test_files_that_cannot_be_used_are_named() -> None:
    chain, key, _ = material()
    _, other_key, _ = material()
    with serving(tls=(chain, key, b"")) as served:
        for given, says in (
            ((b"", key, b""), "the certificate cannot be used"),
            ((b"nonsense", key, b""), "the certificate cannot be used"),
            ((chain, b"", b""), "the private key cannot be used"),
            ((chain, other_key, b""), "the private key cannot be used"),
            ((chain, key, b"nonsense"), "the authorities for clients cannot be used"),
        ):
            with pytest.raises(ValueError, match=says):
                served.wire.set_tls(*given)
        with secure_channel(served.address) as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer secret", OK),
        ("bearer   secret", OK),
        ("BEARER other", OK),
        ("Bearer wrong", UNAUTHENTICATED),
        ("Bearer", UNAUTHENTICATED),
        ("Bearer ", UNAUTHENTICATED),
        (" bearer  secret ", OK),
        ("Basic secret", UNAUTHENTICATED),
        ("secret", UNAUTHENTICATED),
        (None, UNAUTHENTICATED),
    ],
)
def test_tokens(header: str | None, status: int) -> None:
    with serving(tokens=[digest("secret"), digest("other")]) as served, Caller(served.address) as caller:
        more = (("authorization", header),) if header is not None else ()
        for path in (HOT, ECHO, "/no/method"):
            answer = caller.call(path, message(b"x"), *more)
            assert answer.status == (12 if path == "/no/method" and status == OK else status)
        assert caller.call(OPEN, message(b"x"), *more).status == OK
        assert "secret" not in str(served.metadata)
        caller.call(HOT, message(b"whose"), ("authorization", "Bearer secret"))
        assert (served.objects[-1].payload, served.objects[-1].bearer) == (b"whose", digest("secret"))


def test_rows_of_one_column_have_one_token() -> None:
    with serving(tokens=[digest("secret"), digest("other")]) as served, grpc.insecure_channel(served.address) as opened:
        call = opened.unary_unary(HOT)
        assert call(b"first", metadata=(("authorization", "Bearer secret"),), timeout=WAIT) == b"object:first"
        served.answering.clear()
        time.sleep(0.1)
        row = PREFIX + bytes([1]) * PIXELS
        tokens = ("secret", "other", "other", "secret", "secret")
        futures = [call.future(row, metadata=(("authorization", f"Bearer {token}"),), timeout=WAIT) for token in tokens]
        served.wait_for_counter("calls", 1 + len(tokens))
        time.sleep(0.1)
        served.answering.set()
        assert {future.result() for future in futures} == {bytes([PIXELS])}
        assert {column.bearer: len(column.numbers) for column in served.columns} == {
            digest("secret"): 3,
            digest("other"): 2,
        }


def test_a_call_without_a_token_is_refused_before_its_message() -> None:
    with serving(tokens=[digest("secret")]) as served, Caller(served.address) as caller:
        answer = caller.answer(caller.begin(HOT))
        assert answer.status == UNAUTHENTICATED
        assert "authorization: Bearer TOKEN" in answer.trailers["grpc-message"]
        caller.read_until(lambda: answer.reset is not None)
        assert served.wire.counters()["unauthenticated"] == 1
        assert served.wire.counters()["room_used"] == 0


def test_tokens_are_renewed_while_it_serves() -> None:
    with serving(tokens=[digest("old")]) as served, Caller(served.address) as caller:
        old, new = ("authorization", "Bearer old"), ("authorization", "Bearer new")
        assert caller.call(HOT, message(b"x"), old).status == OK
        served.wire.set_tokens([digest("new")])
        _wait_until(lambda: caller.call(HOT, message(b"x"), old).status == UNAUTHENTICATED)
        assert caller.call(HOT, message(b"x"), new).status == OK
        served.wire.set_tokens([])
        _wait_until(lambda: caller.call(HOT, message(b"x"), new).status == UNAUTHENTICATED)
        served.wire.set_tokens(None)
        _wait_until(lambda: caller.call(HOT, message(b"x")).status == OK)
        with pytest.raises(ValueError, match="32 bytes"):
            served.wire.set_tokens([b"short"])


def _wait_until(holds: "object") -> None:
    for _ in range(100):
        if holds():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to hold")
