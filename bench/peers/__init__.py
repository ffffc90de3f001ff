"""Peers, each installed into an environment of its own, `.venv-peers/NAME`, the first time it is needed.

Earlier versions of this project are peers too: built from their commit, with what they depended on.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.contenders import MODEL_INFER, OURS, Contender

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".venv-peers"
BEFORE_WIRE = "v0.1.0"  # served over pygrpc-native
BEFORE_CLASSES = "5181929"  # one queue, first in, first out
RUNTIME = ["onnxruntime==1.32.0", "numpy"]
REQUIREMENTS = {
    "mosec": ["mosec==0.9.8"],
    "mlserver": ["mlserver==1.7.1", "uvloop==0.21.0"],  # its parallel start fails with uvloop 0.23
    "litserve": ["litserve==0.2.19"],
}


def python(name: str) -> str:
    """The interpreter of a peer's environment, made if it is not there."""
    folder = ENVIRONMENTS / name
    stamp = folder / ".installed"
    if not stamp.exists():
        print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *REQUIREMENTS[name], *RUNTIME], check=True)
        stamp.touch()
    return str(folder / "bin/python")


def earlier(revision: str) -> Path | None:
    """The environment of an earlier version of this project, made if it is not there; its source is in `source`.

    Returns:
        None where git does not know the revision, as in a clone of the last commit alone.
    """
    folder = ENVIRONMENTS / f"mlpserve-{revision}"
    if (folder / ".installed").exists():
        return folder
    with tempfile.TemporaryFile() as archive:
        command = ["git", "-C", str(ROOT), "archive", revision]
        if subprocess.run(command, stdout=archive, stderr=subprocess.DEVNULL, check=False).returncode:
            return None
        print(f"installing {revision} into {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        source = folder / "source"
        source.mkdir()
        archive.seek(0)
        subprocess.run(["tar", "-x", "-C", source], stdin=archive, check=True)
    pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    constraint = ["--constraint", source / "constraints.txt"]
    subprocess.run([*pip, *constraint, f"{source}[server,cpu,images]"], check=True)
    (folder / ".installed").touch()
    return folder


def server_before(revision: str, name: str) -> Contender | None:
    """The server of an earlier version, with its defaults."""
    folder = earlier(revision)
    if folder is None:
        return None
    command = (str(folder / "bin/mlpserve-server"), "--store", "{store}", "--listen", "127.0.0.1:{port}")
    return replace(OURS[0], name=name, command=command)


def peers() -> list[Contender]:
    """The peers, installed."""
    off = {"MODEL": "{onnx}", "PORT": "{port}", "ORT_DISABLE_TELEMETRY": "1"}
    mosec = (python("mosec"), str(HERE / "mosec_server.py"), "--port", "{port}", "--log-level", "warning")
    mlserver = (python("mlserver"), "-m", "mlserver.cli.main", "start", str(HERE / "mlserver_mnist"))
    ports = {"MLSERVER_GRPC_PORT": "{port}", "MLSERVER_HTTP_PORT": "{other}", "MLSERVER_METRICS_PORT": "{another}"}
    return [
        Contender("mosec", mosec, "/inference", "raw", environment=off | {"BATCH": "1"}),
        Contender("mosec, batching", mosec, "/inference", "raw", environment=off | {"BATCH": "256"}, open_loop=True),
        Contender("MLServer", mlserver, MODEL_INFER, "oip-bytes", environment=off | ports, open_loop=True),
        Contender(
            "LitServe", (python("litserve"), str(HERE / "litserve_server.py")), "/predict", "json", environment=off
        ),
    ]
