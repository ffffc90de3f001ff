"""Peers, each installed into an environment of its own, `.venv-peers/NAME`, the first time it is needed."""

import subprocess
import sys
from pathlib import Path

from bench.contenders import Contender

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / ".venv-peers"
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


def peers() -> list[Contender]:
    """The peers, installed."""
    off = {"MODEL": "{onnx}", "PORT": "{port}", "ORT_DISABLE_TELEMETRY": "1"}
    mosec = (python("mosec"), str(HERE / "mosec_server.py"), "--port", "{port}", "--log-level", "warning")
    mlserver = (python("mlserver"), "-m", "mlserver.cli.main", "start", str(HERE / "mlserver_mnist"))
    ports = {"MLSERVER_GRPC_PORT": "{port}", "MLSERVER_HTTP_PORT": "{other}", "MLSERVER_METRICS_PORT": "{another}"}
    return [
        Contender("mosec", mosec, "/inference", "raw", environment=off | {"BATCH": "1"}),
        Contender("mosec, batching", mosec, "/inference", "raw", environment=off | {"BATCH": "256"}),
        Contender(
            "MLServer", mlserver, "/inference.GRPCInferenceService/ModelInfer", "oip-bytes", environment=off | ports
        ),
        Contender(
            "LitServe", (python("litserve"), str(HERE / "litserve_server.py")), "/predict", "json", environment=off
        ),
    ]
