"""TLS and limits on real connections: who is refused, with which code, and that nothing leaks."""

import datetime
import re
import socket
import ssl
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
import trustme
from support.grpc_calls import predict_code, stub
from support.mnist import mnist_images
from support.processes import BIN, ServerProcess, run
from support.transports import need
from support.waiting import wait_until
from tests.support import http2

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client, InvalidInputError, Tls, UnavailableError
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import ConfigError
from mlpserve_server.transports.tls import check_callers, check_plaintext

IMAGE = pb.PredictRequest(images=bytes(784))
RENEWAL_SECONDS = 15


class Certificates:
    """An authority's files in a folder: ca.pem, server.{pem,key}, caller.{pem,key}."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.issue("server")
        self.issue("caller")

    def issue(self, name: str, *, authority: trustme.CA | None = None, expired: bool = False) -> None:
        days = datetime.timedelta(days=-1 if expired else 30)
        after = datetime.datetime.now(datetime.UTC) + days
        issued = (authority or self.authority).issue_cert("127.0.0.1", "localhost", not_after=after)
        issued.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
        (self.folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def server_flags(self) -> list[object]:
        return ["--tls-cert", self.folder / "server.pem", "--tls-key", self.folder / "server.key"]

    def tls(self, *, caller: bool = False, ca: str = "ca.pem") -> Tls:
        files = (self.folder / "caller.pem", self.folder / "caller.key") if caller else (None, None)
        return Tls(self.folder / ca, *files)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Certificates(folder)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_auto_takes_the_wire_where_it_is_installed_and_says_so(
    tls: bool, store: Path, certificates: Certificates, tmp_path: Path
) -> None:
    need("wire")
    with ServerProcess(tmp_path, store, *(certificates.server_flags() if tls else ())) as process:
        assert "transport auto: wire (the fastest, and it is installed)" in process.log


def test_auto_says_why_it_takes_grpcio(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mlpserve_wire.py").write_text("raise ImportError('libnghttp2.so.14 is missing')")
    with ServerProcess(tmp_path, store, env={"PYTHONPATH": str(tmp_path)}) as process:
        assert re.search(r"transport auto: grpcio \(mlpserve-wire.* cannot be used: libnghttp2.so.14 is", process.log)
    asked = run("mlpserve-server", "--store", store, "--transport", "wire", env={"PYTHONPATH": str(tmp_path)})
    assert asked.returncode in (1, 2)
    assert "--transport wire: libnghttp2.so.14 is missing; `make wire` builds it" in asked.stderr


def test_tls_serves_those_who_trust_it_and_refuses_the_rest(
    transport: str, store: Path, certificates: Certificates, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, store, *certificates.server_flags(), "--transport", transport) as process:
        with Client(process.address, tls=certificates.tls()) as client:
            assert len(client.predict(mnist_images()[:3])) == 3
            assert client.get_model().serving.transport == transport
        trustme.CA().cert_pem.write_to_path(str(certificates.folder / "other-ca.pem"))
        with (
            Client(process.address, tls=certificates.tls(ca="other-ca.pem"), retries=0, timeout=5) as stranger,
            pytest.raises(UnavailableError, match=r"(?i)certificate|handshake|ssl"),
        ):
            stranger.get_model()
        with (
            Client(process.address, retries=0, timeout=5) as plaintext,
            pytest.raises(UnavailableError),
        ):
            plaintext.get_model()
        healthcheck = [BIN / "python", "-m", "mlpserve_server.healthcheck", process.address]
        for flags, code in ((["--ca", certificates.folder / "ca.pem"], 0), ([], 1)):
            assert run(str(healthcheck[0]), *healthcheck[1:], *flags).returncode == code
        result = run("mlpserve", "--server", process.address, "--tls-ca", certificates.folder / "ca.pem", "info")
        assert "mnist version 1" in result.stdout


def test_mutual_tls_wants_a_certificate_of_its_authority(
    transport: str, store: Path, certificates: Certificates, tmp_path: Path
) -> None:
    flags = [
        *certificates.server_flags(),
        "--transport",
        transport,
        "--tls-client-ca",
        certificates.folder / "ca.pem",
    ]
    with ServerProcess(tmp_path, store, *flags) as process:
        with Client(process.address, tls=certificates.tls(caller=True)) as client:
            assert client.get_model().model.name == "mnist"
        for name in ("nobody's", "expired", "none"):
            if name == "nobody's":
                certificates.issue("caller", authority=trustme.CA())
            elif name == "expired":
                certificates.issue("caller", expired=True)
            with (
                Client(process.address, tls=certificates.tls(caller=name != "none"), retries=0, timeout=5) as stranger,
                pytest.raises(UnavailableError),
            ):
                stranger.get_model()


def test_an_expired_server_certificate_is_refused_and_a_renewed_one_needs_no_restart(
    transport: str, store: Path, certificates: Certificates, tmp_path: Path
) -> None:
    certificates.issue("server", expired=True)
    with ServerProcess(tmp_path, store, *certificates.server_flags(), "--transport", transport) as process:

        def answers() -> bool:
            with Client(process.address, tls=certificates.tls(), retries=0, timeout=5) as client:
                try:
                    client.get_model()
                except UnavailableError:
                    return False
                return True

        assert not answers()
        (certificates.folder / "server.pem").write_text("half a fi")

        def is_named() -> bool:
            assert not answers()  # over grpcio a handshake makes the server look
            return "the certificates stay as they were" in process.log

        wait_until(is_named, "half a certificate is named in the log")
        certificates.issue("server")
        wait_until(answers, "the renewed certificate is served", RENEWAL_SECONDS)
        assert "the certificates were read again" in process.log


def test_a_client_does_not_show_its_token_to_the_whole_network(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="would travel unencrypted"):
        Client("models.example:50051", token="first")
    Client("models.example:50051", token="first", token_over_plaintext=True).close()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Client("models.example:50051", tls=Tls(ca=tmp_path / "missing.pem"))


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--listen", "0.0.0.0:0"], 1, "--allow-plaintext"),
        (["--listen", "[::]:0"], 1, "can be reached from other hosts"),
        (["--tls-cert", "missing.pem"], 2, "--tls-cert and --tls-key go together"),
        (["--tls-cert", "missing.pem", "--tls-key", "missing.key"], 1, "expected a PEM certificate chain"),
        (["--tls-client-ca", "missing.pem"], 2, "--tls-client-ca needs"),
        (["--tokens", "missing"], 1, "--tokens missing cannot be read"),
    ],
)
def test_what_cannot_be_secured_does_not_start(store: Path, flags: list[str], code: int, words: str) -> None:
    result = run("mlpserve-server", "--store", store, "--listen", "127.0.0.1:0", *flags)
    assert (result.returncode, words in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr


def test_plaintext_to_all_when_told_so(store: Path, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, store, "--listen", "0.0.0.0:0", "--allow-plaintext") as process,
        stub(process.address.replace("0.0.0.0", "127.0.0.1")) as caller,
    ):
        assert predict_code(caller) is grpc.StatusCode.OK


def test_limits_of_a_connection(store: Path, transport: str, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, store, "--transport", transport, "--max-streams", 4) as process,
        stub(process.address) as caller,
    ):
        calls = [caller.Predict.future(IMAGE, timeout=30) for _ in range(100)]
        assert all(call.exception() is None for call in calls), "more calls than streams wait for their turn"
        with http2.Connection(process.address) as connection:
            wait_until(lambda: connection.settings.get(http2.MAX_CONCURRENT_STREAMS) == 4, "callers are told the limit")
        code = predict_code(caller, ("x-large", "x" * 60_000))
        assert code is not grpc.StatusCode.OK
        assert predict_code(caller) is grpc.StatusCode.OK


def test_calls_of_a_connection_that_are_taken_at_a_time(store: Path, transport: str, tmp_path: Path) -> None:
    """Fewer over grpcio, where others wait behind all of them; a caller with more waits itself, and loses none."""
    with ServerProcess(tmp_path, store, "--transport", transport) as process:
        most = 128 if transport == "grpcio" else 1024
        with http2.Connection(process.address) as connection:
            wait_until(
                lambda: connection.settings.get(http2.MAX_CONCURRENT_STREAMS) == most, "callers are told the limit"
            )
        with stub(process.address) as caller:
            calls = [caller.Predict.future(IMAGE, timeout=60) for _ in range(most + 200)]
            assert all(call.exception() is None for call in calls)


def test_connections_are_limited_and_aged(store: Path, tmp_path: Path) -> None:
    flags = ["--transport", "grpcio", "--max-connections", 3, "--max-connection-age", 3]
    with ServerProcess(tmp_path, store, *flags) as process:
        host, port = process.address.split(":")
        idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(20)]
        greeted = 0
        for connection in idle:
            with suppress(ConnectionError):
                greeted += bool(connection.recv(1))  # the server's SETTINGS; nothing if it has hung up
        assert greeted == 3
        for connection in idle:
            connection.close()
        with ExitStack() as stack:
            client = stack.enter_context(Client(process.address))

            def taken() -> http2.Connection | None:
                """A connection that is served; the server may not have noticed yet that the idle ones are gone."""
                connection = stack.enter_context(http2.Connection(process.address))
                wait_until(lambda: connection.settings or connection.closed, "a connection is greeted or ended", 5)
                return connection if connection.settings else None

            aged = wait_until(taken, "there is room for a connection again", not_yet=(OSError, AssertionError))

            def is_told_to_go() -> bool:
                assert len(client.predict(mnist_images()[:1])) == 1, "a call moves to another connection"
                return aged.frames[http2.GOAWAY] > 0

            def state() -> str:
                return f"a connection of three seconds is told to go; closed: {aged.closed}, frames: {aged.frames}"

            wait_until(is_told_to_go, state, 15, every=0.01)


def test_a_handshake_that_stalls_does_not_block_others(store: Path, certificates: Certificates, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, *certificates.server_flags()) as process:
        host, port = process.address.split(":")
        stalled = [socket.create_connection((host, int(port)), timeout=10) for _ in range(50)]
        with Client(process.address, tls=certificates.tls()) as client:
            assert client.get_model().model.name == "mnist"
        context = ssl.create_default_context(cafile=str(certificates.folder / "ca.pem"))
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert secure.version() in ("TLSv1.2", "TLSv1.3")
        for connection in stalled:
            connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "[::1]", "localhost"])
def test_loopback_needs_no_encryption(host: str, tmp_path: Path) -> None:
    check_plaintext(ServerConfig(store=tmp_path, listen=f"{host}:0"))


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "0", "[::]", "10.0.0.9", "127.evil.example", "localhost.evil.example", "evil.localhost", "127.1"),
        *("2130706433", "[::ffff:10.0.0.9]", "127.0.0.1.evil.example", "localhost.", "[localhost].evil", "127.0.0.1\0"),
    ],
)
def test_whatever_is_not_clearly_loopback_needs_encryption(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can be reached from other hosts"):
        check_plaintext(ServerConfig(store=tmp_path, listen=f"{host}:0"))


def test_grpcio_is_not_for_ports_that_strangers_reach(tmp_path: Path) -> None:
    """There one malformed method name ends everybody's calls, before a token can be asked for."""
    tls = {"tls_cert": "chain.pem", "tls_key": "key.pem"}
    with pytest.raises(ConfigError, match=r"--transport wire .* --tls-client-ca, .* --trusted-callers"):
        check_callers(ServerConfig(store=tmp_path, listen="0.0.0.0:0", **tls))
    for known in ({"tls_client_ca": "ca.pem"}, {"trusted_callers": True}, {"allow_plaintext": True}):
        check_callers(ServerConfig(store=tmp_path, listen="0.0.0.0:0", **tls, **known))
    check_callers(ServerConfig(store=tmp_path, listen="127.0.0.1:0"))


def test_a_server_over_grpcio_refuses_strangers(store: Path, certificates: Certificates) -> None:
    files = ["--tls-cert", certificates.folder / "server.pem", "--tls-key", certificates.folder / "server.key"]
    flags = ["--store", store, "--listen", "0.0.0.0:0", "--transport", "grpcio", *files]
    result = run("mlpserve-server", *flags)
    assert result.returncode == 1
    assert "any of them can end the calls of the others" in result.stderr
