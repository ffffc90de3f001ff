"""`mlpserve doctor`: check this machine and the connection to the server.

Every check results in ok, a note (it works, but deserves attention) or a problem; notes and problems say what to do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np

from mlpserve.shown import shown
from mlpserve.v1.artifact_pb2 import Precision
from mlpserve_client.client import Client
from mlpserve_client.connection.proxies import ADDRESS_PROXY, PROXY_VARIABLES, proxy_of
from mlpserve_client.connection.targets import addresses, host_of
from mlpserve_client.errors import (
    DeadlineExceededError,
    InvalidResponseError,
    ModelNotFoundError,
    ServerError,
    UnauthenticatedError,
)
from mlpserve_client.messages.responses import value_name

OK, NOTE, PROBLEM = "ok", "note", "problem"
OLDEST_PYTHON = (3, 11)
SHOWN_EXTRAS = ("score", "web", "server", "trainer")
PREDICTIONS = 50  # to measure the round trip
SECONDS = 5.0  # to wait for it


class Finding(NamedTuple):
    """The outcome of one check.

    Attributes:
        check: what was checked.
        state: OK, NOTE or PROBLEM.
        found: what was found.
        advice: what to do about it; "" for nothing.
    """

    check: str
    state: str
    found: str
    advice: str = ""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    doctor = commands.add_parser("doctor", help="diagnose this machine and the connection to the server")
    doctor.add_argument(
        "--target", dest="server", default=argparse.SUPPRESS, metavar="HOST:PORT", help="address of the server"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=run)


def run(client: Client, arguments: argparse.Namespace) -> int:
    """Print each finding as it arrives, and return the exit code: 1 if there is a problem."""
    findings = []
    for finding in examine(client):
        findings.append(finding)
        if not arguments.json:
            print(f"{finding.state:<8} {finding.check:<13} {finding.found}", flush=True)
            if finding.advice:
                print(f"{'':<8} {'':<13} → {finding.advice}", flush=True)
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings]))
    return int(any(finding.state == PROBLEM for finding in findings))


def examine(client: Client) -> Iterator[Finding]:
    """Run all checks in turn; the last ones call the server."""
    yield _python()
    yield _machine()
    yield from _packages()
    yield _gpu()
    yield _proxy(client.target)
    yield from _server(client)


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", PROBLEM, found, "mlpserve needs Python 3.11 or newer")
    return Finding("Python", OK, found)


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = _first_line("/proc/cpuinfo", "flags")
    known = [
        name
        for flag, name in (("avx512_vnni", "AVX-512 VNNI"), ("avx_vnni", "AVX-VNNI"), ("avx2", "AVX2"))
        if flag in flags
    ]
    found = f"{platform.system()} {platform.machine()}, {cores} CPUs" + (f" with {known[0]}" if known else "")
    if sys.platform != "linux":
        advice = "the server's wire transport and its workers are for Linux; use --transport grpcio"
        return Finding("machine", NOTE, found, advice)
    return Finding("machine", OK, found)


def _first_line(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(name)), "")


def _packages() -> Iterator[Finding]:
    """Compare the installed packages with the requirements, first the base's, then those of the extras."""
    wanted = _wanted()
    missing, old = _lacking(wanted.get("", {}))
    found = f"mlpserve {importlib.metadata.version('mlpserve')}, grpcio {grpc.__version__}, numpy {np.__version__}"
    lacking = missing + old
    yield (
        Finding("packages", PROBLEM, found, f"pip install {_quoted(lacking)}")
        if lacking
        else Finding("packages", OK, found)
    )
    for extra in SHOWN_EXTRAS:
        needed = wanted.get(extra, {})
        missing, old = _lacking(needed)
        if old:
            yield Finding(f"[{extra}]", PROBLEM, f"too old: {', '.join(old)}", f"pip install {_quoted(old)}")
        elif not missing:
            yield Finding(f"[{extra}]", OK, "installed")
        elif len(missing) < len(needed) and extra in ("server", "trainer"):
            yield Finding(f"[{extra}]", NOTE, f"lacks {', '.join(map(_name, missing))}", _install(extra))
        else:
            yield Finding(f"[{extra}]", OK, f"not installed; if you want it: {_install(extra)}")
    yield _onnx_runtime()


def _install(extra: str) -> str:
    return f"pip install 'mlpserve[{extra}{',cpu' if extra in ('server', 'trainer') else ''}]'"


def _wanted() -> dict[str, dict[str, str]]:
    """Requirements of this version by extra ("" for the base): package → lowest version."""
    wanted: dict[str, dict[str, str]] = {}
    for line in importlib.metadata.requires("mlpserve") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        name = re.match(r"[\w.-]+", requirement)
        lowest = re.search(r">=\s*([\d.]+)", requirement)
        if name and not name[0].startswith("mlpserve"):
            wanted.setdefault(extra[1] if extra else "", {})[name[0]] = lowest[1] if lowest else "0"
    return wanted


def _lacking(needed: dict[str, str]) -> tuple[list[str], list[str]]:
    """Requirements that are missing, and those that are too old, as "name>=version"."""
    missing, old = [], []
    for name, lowest in needed.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{name}>={lowest}")
            continue
        if _numbers(version) < _numbers(lowest):
            old.append(f"{name}>={lowest}")
    return missing, old


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]


def _name(requirement: str) -> str:
    return requirement.partition(">=")[0]


def _quoted(requirements: list[str]) -> str:
    return " ".join(f"'{requirement}'" for requirement in requirements)


def _onnx_runtime() -> Finding:
    builds = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(builds) == 2:
        advice = (
            "they overwrite each other's files: uninstall both, then install one of mlpserve[cpu] and mlpserve[gpu]"
        )
        return Finding("ONNX Runtime", PROBLEM, "both builds are installed", advice)
    if not builds:
        return Finding("ONNX Runtime", OK, "not installed; only the server and the trainer need it")
    return Finding("ONNX Runtime", OK, f"{builds[0]} {importlib.metadata.version(builds[0])}")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _gpu() -> Finding:
    driver = _first_line("/proc/driver/nvidia/version", "NVRM")
    if not driver:
        if shutil.which("nvidia-smi"):
            return Finding(
                "GPU",
                NOTE,
                "nvidia-smi is there, and no driver",
                "load the driver, or pass the GPU into the container (--gpus all)",
            )
        return Finding("GPU", OK, "none; server and trainer use the CPU")
    version = re.search(r"\b(\d{3,})\.\d+", driver)
    found = f"NVIDIA driver {version[0] if version else driver}"
    if _installed("onnxruntime") and not _installed("onnxruntime-gpu"):
        return Finding(
            "GPU",
            NOTE,
            f"{found}, but ONNX Runtime is the build for CPUs",
            "pip uninstall onnxruntime; pip install 'mlpserve[server,gpu]'",
        )
    if version and int(version[1]) < 580 and _installed("onnxruntime-gpu"):
        return Finding("GPU", PROBLEM, found, "CUDA 13 needs a driver of the 580 series or newer (docs/gpu.md#serving)")
    return Finding("GPU", OK, found)


def _proxy(target: str) -> Finding:
    proxy = proxy_of(target)
    if proxy:
        advice = f"if the proxy does not let gRPC through: export no_proxy={host_of(addresses(target)[0])}"
        return Finding("proxy", NOTE, f"calls to {target} go through {proxy}", advice)
    named = [f"${name}" for name in (*PROXY_VARIABLES, ADDRESS_PROXY) if os.environ.get(name)]
    if named:
        return Finding("proxy", OK, f"{', '.join(named)} set; calls to {target} go past it")
    return Finding("proxy", OK, "none")


def _server(client: Client) -> Iterator[Finding]:
    target = client.target
    host, _, port = target.rpartition(":")
    if host in ("127.0.0.1", "localhost") and port.isascii() and port.isdigit() and not _listens(host, int(port)):
        advice = f"start one: mlpserve-server --store STORE --listen {target} (or docker compose up)"
        yield Finding("server", PROBLEM, f"nothing listens on {target}; the port is free", advice)
        return
    try:
        info = client.get_model(timeout=SECONDS)
    except ServerError as error:
        yield Finding("server", PROBLEM, str(error), _advice(error))
        return
    served = f"{info.model.name} version {info.model.version} on {target}"
    serving = f"{info.serving.provider}, {value_name(Precision, info.serving.precision)}, {info.serving.transport}"
    yield Finding("server", OK, f"{served}: {shown(serving)} transport")
    image = np.zeros((1, info.manifest.image.rows, info.manifest.image.cols), np.uint8)
    seconds = []
    try:
        for _ in range(PREDICTIONS):
            started = time.perf_counter()
            client.predict(image, timeout=SECONDS)
            seconds.append(time.perf_counter() - started)
    except ServerError as error:
        yield Finding("Predict", PROBLEM, str(error), _advice(error))
        return
    middle, worst = float(np.median(seconds)) * 1000, max(seconds) * 1000
    yield Finding(
        "Predict", OK, f"{PREDICTIONS} calls one after another: median {middle:.2f} ms, slowest {worst:.2f} ms"
    )


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def _advice(error: ServerError) -> str:
    if isinstance(error, UnauthenticatedError):
        return "give a token that the server knows: --token-file FILE (docs/serving.md#authentication-and-tls)"
    if isinstance(error, ModelNotFoundError):
        return "leave out --model and --version, or give those that `mlpserve info` shows"
    if isinstance(error, InvalidResponseError):
        return "look at what listens there: another service, or another version of mlpserve (docs/client.md#errors)"
    if isinstance(error, DeadlineExceededError):
        return "something answers too slowly, or drops packets: a firewall, or another service on this port"
    return "is it an mlpserve server, reachable from here, and with --tls if it asks for it? docs/client.md#errors"
