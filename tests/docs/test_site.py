"""The documentation as pages: built strictly, every link followed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.documents import ROOT


def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert built.returncode == 0, built.stdout + built.stderr
    checked = subprocess.run(
        [sys.executable, ".ci/links.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    contract = (tmp_path / "reference/contract.html").read_text()
    assert "batch_images" in contract
    assert "Images in the batch, those of other requests included" in contract
    assert "--keep-versions" in (tmp_path / "reference/mlpserve-server.html").read_text()
    assert "--vary" in (tmp_path / "reference/mlpserve-train.html").read_text()


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a> <a href="gone.html">y</a>')
    (tmp_path / "b.html").write_text('<h1 id="here">z</h1>')
    checked = subprocess.run(
        [sys.executable, ".ci/links.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1
    assert "b.html#there: no such heading" in checked.stderr
    assert "gone.html: no such page" in checked.stderr
