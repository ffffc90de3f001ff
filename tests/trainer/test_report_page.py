"""The report in a real browser, on a phone and on a desk, by day and by night."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_every_width(store: Path, scheme: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (390, 768, 1280):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto((store / "mnist/1/report.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width, "the page moves sideways"
            figures = page.evaluate("[...document.images].map((image) => image.clientWidth)")
            assert len(figures) == 7
            assert min(figures) >= min(width, 500), "letters in a figure cannot be read"
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
            assert dark == (scheme == "dark")
        browser.close()
