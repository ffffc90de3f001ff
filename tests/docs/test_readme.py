"""README as somebody new follows it: a fresh clone, a fresh environment, every block where it stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import free_port
from tests.support import documents
from tests.support.documents import ROOT, Block

README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PORTS = ("50051", "50052", "9090")  # of the pages; a machine that runs tests may need them for something else


def followed() -> list[Block]:
    """All blocks but those that show output, and those that need Docker, which the compose tests run."""
    found = [block for block in documents.blocks(README) if block.language not in documents.SHOWN]
    return [block for block in found if not all("docker" in line for line in block.code.splitlines())]


def test_nothing_but_docker_is_left_out() -> None:
    elsewhere = [block for block in documents.blocks(README) if block.elsewhere]
    assert all(re.match(r"docker compose", line) for block in elsewhere for line in block.code.splitlines())
    assert {block.language for block in followed()} == {"bash", "python"}
    assert not [block.name for block in followed() if block.notes], "README makes whatever its blocks need"


def test_both_readmes_have_the_same_code() -> None:
    english, chinese = ([re.sub(r"\s*#.*", "", b.code) for b in documents.blocks(page)] for page in (README, CHINESE))
    assert set(chinese) <= set(english)
    assert chinese == [code for code in english if code in chinese], "in another order"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_readme_runs_as_it_is_pasted(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    shutil.copy(README, clone)  # as it is being edited
    script = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in followed():
        script.append(f"echo '== README.md:{block.line}'")
        script.append(block.code if block.language == "bash" else f"python - <<'PROGRAM'\n{block.code}PROGRAM")
    text = "\n".join([*script, "wait"])  # for the servers that it has told to stop
    ports = {port: str(free_port()) for port in PORTS}
    for port, other in ports.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{other}")
    # Nothing of this environment: the interpreter below it, and the system's programs.
    python = Path(getattr(sys, "_base_executable", sys.executable))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(python)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LANG", "LC_"))}
    kept |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment = {
        **kept,
        "PATH": f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "MLPSERVE_SERVER": f"127.0.0.1:{ports['50051']}",  # which is the default's place
    }
    log = tmp_path / "log"
    with log.open("w") as output:
        result = subprocess.run(
            ["bash", "-c", text], cwd=clone, env=environment, stdout=output, stderr=output, timeout=2900, check=False
        )
    said = log.read_text()
    assert result.returncode == 0, said[-5000:]
    for words in (
        "Test accuracy 98.",
        "predictions of mnist version 1",
        "follow version 1 (before: 2)",
        "mlpserve_model_info{",
        "drained; every",
    ):
        assert words in said, said[-5000:]
