"""`mlpserve-server` as a person runs it."""

import signal
import socket
from pathlib import Path

import pytest
from support.processes import PROVIDER, ServerProcess, run, scrape

from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.errors import ConfigError
from mlpserve_server.host.cpus import cpu_count


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--store", "/nowhere"], 1, "--store /nowhere: no such folder"),
        (["--model", "cats"], 1, "no model 'cats'"),
        (["--version", "9"], 1, "no version 9"),
        (["--device", "cuda:99"], 1, "Use --device cpu, or auto to take a GPU only where one works"),
        (["--listen", "here"], 2, "--listen 'here': expected HOST:PORT"),
        (["--listen", "256.0.0.1:0"], 1, "--listen 256.0.0.1:0"),
        (["--max-batch", "0"], 2, "--max-batch must be at least 1"),
        (["--max-queue", "10"], 2, "--max-queue must be at least --max-request"),
        (["--batch-queue", "10"], 2, "--batch-queue must be at least --max-request"),
        (["--batch-share", "1"], 2, "--batch-share must be 0 or more, and below 1"),
        (["--precision", "fp64"], 2, "invalid choice: 'fp64'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_flags_end_in_a_sentence(flags: list[str], code: int, words: str, store: Path, transport: str) -> None:
    result = run("mlpserve-server", "--store", store, "--listen", "127.0.0.1:0", "--transport", transport, *flags)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_port_in_use(store: Path, transport: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("mlpserve-server", "--store", store, "--listen", address, "--transport", transport)
        assert result.returncode == 1
        assert f"--listen {address}" in result.stderr
        assert "in use" in result.stderr
        metrics = run("mlpserve-server", "--store", store, "--listen", "127.0.0.1:0", "--metrics-listen", address)
        assert metrics.returncode == 1
        assert f"--metrics-listen {address}: Address already in use" in metrics.stderr
    assert "Traceback" not in result.stderr + metrics.stderr


def test_a_second_server_on_the_port_is_refused(store: Path, transport: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--transport", transport) as process:
        result = run("mlpserve-server", "--store", store, "--listen", process.address, "--transport", transport)
    assert result.returncode == 1
    assert "in use" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_drain_and_exit_zero(store: Path, transport: str, tmp_path: Path, number: signal.Signals) -> None:
    with ServerProcess(tmp_path, store, "--transport", transport) as process:
        process.process.send_signal(number)
        assert process.wait() == 0
        assert "drained; every accepted request was answered" in process.log
        assert "Traceback" not in process.log


def test_metrics(store: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with ServerProcess(tmp_path, store, "--metrics-listen", address):
        samples = scrape(address)
    assert samples["mlpserve_ready"] == 1
    (info,) = [name for name in samples if name.startswith("mlpserve_model_info")]
    assert 'model="mnist"' in info
    assert f'provider="{PROVIDER}"' in info


def test_addresses() -> None:
    assert split_address("[::1]:80", "--listen") == ("::1", 80)
    for wrong in ("", ":1", "a:b", "a:70000", "a"):
        with pytest.raises(ConfigError):
            split_address(wrong, "--listen")
    with pytest.raises(ConfigError, match="--drain-timeout"):
        ServerConfig(drain_timeout=-1)


def test_cpus_come_from_the_cgroup(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpu_count(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    unlimited = cpu_count(tmp_path)
    assert unlimited == cpu_count(tmp_path / "none")
    v1 = tmp_path / "v1" / "cpu"
    v1.mkdir(parents=True)
    (v1 / "cpu.cfs_quota_us").write_text("100000")
    (v1 / "cpu.cfs_period_us").write_text("100000")
    assert cpu_count(tmp_path / "v1") == 1


def test_onnx_runtime_sends_no_usage_data(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime 1.32 keeps a database in the home folder while its telemetry is on."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with ServerProcess(tmp_path, store):
        pass
    assert not (tmp_path / "home").exists()
