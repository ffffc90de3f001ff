"""The documentation as pages: built strictly, every link followed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.documents import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages."""
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_links_lead_somewhere(site: Path) -> None:
    checked = subprocess.run(
        [sys.executable, ".ci/links.py", str(site)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    contract = (site / "reference/contract.html").read_text()
    assert "batch_images" in contract
    assert "Images in the batch, those of other requests included" in contract


@pytest.mark.parametrize("program", ["mlpserve", "mlpserve-server", "mlpserve-train"])
def test_every_flag_is_in_a_table_under_its_group(site: Path, program: str) -> None:
    page = (site / f"reference/{program}.html").read_text()
    rows = " ".join(re.findall(r"<tr>.*?</tr>", page, re.DOTALL))
    found = set(re.findall(r"<code>(?:<span class=whole>)?(--[a-z-]+)", rows))
    locked = (ROOT / "contract/commands.txt").read_text()
    flags = set(re.findall(rf"^{program} (?:[\w-]+ )?(--[a-z-]+):", locked, re.MULTILINE))
    assert len(flags) > 20
    assert flags - {"--help"} <= found
    heads = {re.sub("<[^>]+>", "", head) for head in re.findall(r"<th>(.*?)</th>", page)}
    assert (
        heads
        >= {
            "mlpserve": {"Server and model", "Authentication and TLS", "Commands", "Columns and labels"},
            "mlpserve-server": {"Model and store", "Batching and load shedding", "Security"},
            "mlpserve-train": {"Recipe and store", "Optimisation", "Publishing"},
        }[program]
    )


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_the_site_opened_from_the_disk_has_search_and_asks_nobody_else(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.fill("input.md-search__input", "rollback", force=True)
        page.wait_for_selector(".md-search-result__item a")
        found = page.locator(".md-search-result__item").all_inner_texts()
        browser.close()
    assert any("rollback" in text.lower() for text in found)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a> <a href="gone.html">y</a>')
    (tmp_path / "b.html").write_text('<h1 id="here">z</h1>')
    checked = subprocess.run(
        [sys.executable, ".ci/links.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1
    assert "b.html#there: no such heading" in checked.stderr
    assert "gone.html: no such page" in checked.stderr
