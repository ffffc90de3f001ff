"""The certificates that docs/deployment.md makes with openssl: a server serves with them, and callers trust them."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from support.processes import ServerProcess, run
from tests.support.documents import blocks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_documented_certificates_serve_and_are_trusted(store: Path, tmp_path: Path) -> None:
    (block,) = [block for block in blocks(ROOT / "docs/deployment.md") if "openssl req -x509" in block.code]
    *making, serve, call = block.code.strip().splitlines()
    assert len(making) == 3
    for line in making:
        made = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    # As documented, but for the port and the folder.
    program, *flags = shlex.split(serve)
    assert (program, flags[:4]) == ("mlpserve-server", ["--store", "store", "--listen", "0.0.0.0:50051"])
    files = [str(tmp_path / flag) if flag.endswith(".pem") or flag.endswith(".key") else flag for flag in flags[4:]]
    with ServerProcess(tmp_path, store, "--listen", "0.0.0.0:0", *files) as server:
        address = f"localhost:{server.address.rpartition(':')[2]}"
        program, *arguments = shlex.split(call.replace("localhost:50051", address))
        arguments[arguments.index("ca.pem")] = str(tmp_path / "ca.pem")
        shown = run(program, *arguments, timeout=60)
        assert shown.returncode == 0, shown.stderr
        assert "mnist" in shown.stdout
        refused = run("mlpserve", "--server", address, "--tls", "--timeout", 5, "info", timeout=60)
        assert refused.returncode != 0, "an authority that nobody was told of is not trusted"
