"""Several processes on one port: supervised, counted together, drained together."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from support.grpc_calls import call_until_refused, stub
from support.processes import ServerProcess, run, scrape, scrape_when
from support.waiting import wait_until

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import ListenError
from mlpserve_server.host.cpus import cpu_count
from mlpserve_server.host.shared_port import reserve
from mlpserve_server.started import Started
from mlpserve_server.workers.count import default_workers
from mlpserve_server.workers.supervisor import Supervisor

ONE = pb.PredictRequest(images=bytes(784))


def _workers(process: ServerProcess) -> list[int]:
    """Process ids of the workers that live."""
    children = Path(f"/proc/{process.process.pid}/task").glob("*/children")
    return sorted(int(child) for path in children for child in path.read_text().split() if _is_worker(int(child)))


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and b"mlpserve_server.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _call_over_many_connections(address: str, count: int = 30) -> None:
    for _ in range(count):
        with stub(address) as caller:
            assert len(caller.Predict(ONE, timeout=30).class_ids) == 1


def test_both_answer_and_are_counted_together(store: Path, transport: str, tmp_path: Path) -> None:
    metrics = _free_address()
    flags = ["--workers", 2, "--transport", transport, "--metrics-listen", metrics]
    with ServerProcess(tmp_path, store, *flags) as process:
        assert len(_workers(process)) == 2
        _call_over_many_connections(process.address)
        samples = scrape_when(metrics, lambda now: now['mlpserve_queue_seconds_count{traffic="interactive"}'] >= 30)
        assert samples['mlpserve_requests_total{code="OK"}'] == 30
        assert samples["mlpserve_images_total"] == 30
        assert samples['mlpserve_queue_seconds_count{traffic="interactive"}'] == 30
        assert samples["mlpserve_ready"] == 1
        process.terminate()
        assert process.wait() == 0
        assert "Traceback" not in process.log


def test_a_dead_worker_is_replaced(store: Path, transport: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--workers", 2, "--transport", transport) as process:
        before = _workers(process)
        os.kill(before[0], signal.SIGKILL)
        process.wait_for_log("starting another")  # the kernel has closed its connections by then
        while process.log.count("proven in") < 3:
            _call_over_many_connections(process.address)  # none of them meets a worker that is not ready
        _call_over_many_connections(process.address)
        assert len(_workers(process)) == 2
        assert before[1] in _workers(process), "the other one was left alone"
        process.terminate()
        assert process.wait() == 0


def test_repeated_death_ends_the_server(store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--workers", 2) as process:

        def killed() -> bool:
            for worker in _workers(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            return process.process.poll() is not None

        wait_until(killed, "the supervisor gives up", every=0.2)
        assert process.wait() == 4
        assert "mlpserve-server: the workers died too often" in process.log
        assert "Traceback" not in process.log


def test_workers_do_not_outlive_their_supervisor(store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--workers", 2) as process:
        workers = _workers(process)
        process.process.kill()
        wait_until(lambda: not any(map(_is_worker, workers)), "the workers end after their supervisor")


def test_drain_under_load_loses_nothing(store: Path, transport: str, tmp_path: Path) -> None:
    outcomes: list[grpc.StatusCode] = []
    with ServerProcess(tmp_path, store, "--workers", 2, "--transport", transport) as process:

        def call_on_its_own_connection() -> None:
            with stub(process.address) as caller:
                call_until_refused(caller, ONE, outcomes)

        threads = [threading.Thread(target=call_on_its_own_connection) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: grpc.StatusCode.OK in outcomes, "a call is answered")
        process.terminate()
        assert process.wait() == 0
        for thread in threads:
            thread.join()
    assert grpc.StatusCode.OK in outcomes
    assert set(outcomes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_start_fails_in_a_sentence(store: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        in_use = run("mlpserve-server", "--store", store, "--listen", address, "--workers", 2)
    missing = run("mlpserve-server", "--store", tmp_path / "none", "--listen", "127.0.0.1:0", "--workers", 2)
    assert (in_use.returncode, missing.returncode) == (1, 1)
    assert f"--listen {address}: Address already in use" in in_use.stderr
    assert "no such folder; train a model with" in missing.stderr
    assert "Traceback" not in in_use.stderr + missing.stderr


def test_one_dead_worker_while_the_store_is_away(store: Path, transport: str, tmp_path: Path) -> None:
    """The other one serves on, the metrics say that one is missing, and it comes back with the store."""
    own = Path(shutil.copytree(store, tmp_path / "store"))
    metrics = _free_address()
    flags = ["--workers", 2, "--transport", transport, "--metrics-listen", metrics, "--precision", "fp32"]
    with ServerProcess(tmp_path, own, *flags) as process:
        assert scrape(metrics)['mlpserve_workers{state="ready"}'] == 2
        own.rename(tmp_path / "away")
        os.kill(_workers(process)[0], signal.SIGKILL)
        process.wait_for_log("cannot be replaced, and is tried again until it can: --store")
        _call_over_many_connections(process.address, 5)
        samples = scrape(metrics)
        assert samples["mlpserve_ready"] == 0
        assert samples['mlpserve_workers{state="configured"}'] == 2
        assert samples['mlpserve_workers{state="ready"}'] == 1
        (tmp_path / "away").rename(own)
        wait_until(lambda: scrape(metrics)["mlpserve_ready"] == 1, "it is ready again")
        assert scrape(metrics)["mlpserve_worker_restarts_total"] >= 2
        process.terminate()
        assert process.wait() == 0


def test_a_process_that_cannot_be_started_is_tried_again(store: Path, tmp_path: Path) -> None:
    metrics = _free_address()
    with ServerProcess(tmp_path, store, "--workers", 2, "--metrics-listen", metrics) as process:
        limit = resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE)
        open_files = len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))
        resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (open_files, limit[1]))
        os.kill(_workers(process)[0], signal.SIGKILL)
        process.wait_for_log("a worker cannot be started: Too many open files")
        _call_over_many_connections(process.address, 5)
        resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, limit)
        wait_until(lambda: scrape(metrics)["mlpserve_ready"] == 1, "it is ready again")
        process.terminate()
        assert process.wait() == 0
        assert "Traceback" not in process.log


def test_a_worker_that_ends_between_ready_and_serving_is_a_death(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(ServerConfig(store=store, workers=1), lambda _: None)
    worker: Any = SimpleNamespace(served=False, failure="", started=Started("mnist", 1, "fp32", ""))
    supervisor._ended(0, supervisor._places[0], worker, -9)
    assert "tried again until it can: it ended with code -9" in caplog.text
    assert len(supervisor._deaths) == 1


def test_a_stopped_worker_does_not_outlive_its_supervisor(store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--workers", 2) as process:
        workers = _workers(process)
        os.kill(workers[0], signal.SIGSTOP)
        process.process.kill()
        wait_until(lambda: not any(map(_is_worker, workers)), "the stopped worker ends after its supervisor")

        def port_is_free() -> bool:
            with contextlib.suppress(ListenError):
                reserve(process.address)[0].close()
                return True
            return False

        wait_until(port_is_free, "the port is free")


def test_a_port_is_free_after_a_server_that_did_not_share_it() -> None:
    """Its connections stay in TIME_WAIT for a minute. Whoever listens, or is about to, is found all the same."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # and no SO_REUSEPORT, as one process has it
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        host, port = listening.getsockname()
        with socket.create_connection((host, port)) as caller:
            listening.accept()[0].close()  # this end waits
            assert caller.recv(1) == b""
        with pytest.raises(ListenError, match="Address already in use"):
            reserve(f"{host}:{port}")
    held, address = reserve(f"{host}:{port}")
    with held:
        assert address == f"{host}:{port}"
        with pytest.raises(ListenError, match="Address already in use"):  # another supervisor whose workers still start
            reserve(address)
        for _ in range(2):
            with socket.socket() as worker:
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    worker.setsockopt(socket.SOL_SOCKET, option, 1)
                worker.bind((host, port))
                worker.listen()


def test_default_is_one_for_two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpserve_server.host.cpus.cpu_count", lambda: 8)
    assert default_workers("cpu", "auto") == 4
    assert default_workers("cuda", "auto") == 1
    assert cpu_count() >= 1


def test_auto_without_a_usable_gpu_has_as_many_as_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's ONNX Runtime alone is no GPU."""
    monkeypatch.setattr("mlpserve_server.host.cpus.cpu_count", lambda: 8)
    monkeypatch.setattr("mlpserve_server.host.cpus.is_installed", lambda _: True)
    assert default_workers("auto", "auto") == 4
    monkeypatch.setattr("sys.executable", shutil.which("true"))  # it can be used
    assert default_workers("auto", "auto") == 1
    assert default_workers("auto", "int8") == 4
