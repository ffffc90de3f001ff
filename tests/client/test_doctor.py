"""`mlpserve doctor` and `mlpserve completion`, as a person runs them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.processes import BIN, ServerProcess, free_port, run

from mlpserve_client.commands import doctor


def _findings(*flags: object) -> tuple[int, dict[str, dict[str, Any]]]:
    result = run("mlpserve", "doctor", "--json", *flags)
    assert result.stderr == ""
    return result.returncode, {finding["check"]: finding for finding in json.loads(result.stdout)}


def test_a_machine_and_a_server_that_are_well(server: ServerProcess) -> None:
    code, findings = _findings("--target", server.address)
    assert code == 0
    assert {finding["state"] for finding in findings.values()} <= {"ok", "note"}
    assert "mnist version 1" in findings["server"]["found"]
    assert "50 calls" in findings["Predict"]["found"]
    for extra in ("[score]", "[web]", "[server]", "[trainer]"):
        assert findings[extra]["found"] == "installed"
    shown = run("mlpserve", "doctor", "--target", server.address)
    assert shown.returncode == 0
    assert f"mnist version 1 on {server.address}" in shown.stdout


def test_nobody_there() -> None:
    target = f"127.0.0.1:{free_port()}"
    code, findings = _findings("--target", target)
    assert code == 1
    assert findings["server"]["found"] == f"nothing listens on {target}; the port is free"
    assert f"mlpserve-server --store STORE --listen {target}" in findings["server"]["advice"]
    assert "Predict" not in findings
    shown = run("mlpserve", "doctor", "--target", target)
    assert "→ start one: mlpserve-server" in shown.stdout


def test_a_server_that_wants_a_token(store: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{'0' * 64}  nobody\n")
    with ServerProcess(tmp_path, store, "--tokens", tmp_path / "tokens") as process:
        code, findings = _findings("--target", process.address)
    assert code == 1
    assert "--token-file" in findings["server"]["advice"]


def test_packages_that_are_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"grpcio": "1.60.0", "numpy": "2.1.0", "onnxruntime": "1.25", "onnxruntime-gpu": "1.31"}

    def version(name: str) -> str:
        if name == "mlpserve":
            return "0.1.0"
        if name not in have:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return have[name]

    requires = [
        "grpcio>=1.71.2",
        "numpy>=1.26",
        "starlette>=0.40; extra == 'web'",
        "prometheus-client>=0.20; extra == 'server'",
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: requires)
    findings = {finding.check: finding for finding in doctor._packages()}
    assert findings["packages"].state == doctor.PROBLEM
    assert findings["packages"].advice == "pip install 'grpcio>=1.71.2'"
    assert findings["[web]"] == ("[web]", "ok", "not installed; if you want it: pip install 'mlpserve[web]'", "")
    assert "pip install 'mlpserve[server,cpu]'" in findings["[server]"].found
    assert findings["ONNX Runtime"].state == doctor.PROBLEM
    assert "both builds" in findings["ONNX Runtime"].found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mlpserve pla", "playground"),
        ("mlpserve score --label-c", "--label-column"),
        ("mlpserve-server --keep", "--keep-versions"),
        ("mlpserve-store prom", "promote"),
        ("mlpserve-train --recipe acc", "accurate"),
        ("mlpserve-train comp", "compare"),
        ("mlpserve-train compare --prec", "--precision"),
    ],
)
def test_bash_completes(words: str, expected: str, tmp_path: Path) -> None:
    script = run("mlpserve", "completion", "bash")
    assert script.returncode == 0
    (tmp_path / "completion").write_text(script.stdout)
    typed = words.split()
    ask = f"""
        source {tmp_path / "completion"}
        COMP_WORDS=({words}) COMP_CWORD={len(typed) - 1}
        $(complete -p {typed[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {typed[0]} {typed[-1]} {typed[-2]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    shell = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, check=False, env={"PATH": f"{BIN}:/usr/bin:/bin"}
    )
    assert expected in shell.stdout.split(), shell.stdout + shell.stderr
