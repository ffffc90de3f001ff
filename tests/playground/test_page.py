"""The playground in a real browser: Chromium draws, and the page must show what the server answered.

The pictures of docs/playground.md are the screenshots of these tests: `make screenshots`.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.processes import PROVIDER, ServerProcess
from tests.support.artifacts import publish_rolled
from tests.support.playground import Playground

from mlpserve_trainer.config import configure
from mlpserve_trainer.job import train

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = os.environ.get("MLPSERVE_SCREENSHOTS")  # folder to put the documentation's pictures into
MNIST = Path(__file__).resolve().parents[2] / "trainer/mlpserve_trainer/mnist"
GALLERY = ("--gallery", MNIST / "t10k-images-idx3-ubyte.gz", "--labels", MNIST / "t10k-labels-idx1-ubyte.gz")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

# Strokes on a sheet of 280 × 280, as a person draws them.
DIGITS = {
    "0": [[(140, 50), (95, 75), (80, 140), (95, 205), (140, 230), (185, 205), (200, 140), (185, 75), (140, 50)]],
    "1": [[(140, 45), (140, 235)]],
    "2": [[(90, 95), (110, 60), (155, 50), (185, 80), (175, 125), (130, 175), (85, 225), (200, 225)]],
    "3": [[(90, 65), (140, 48), (185, 75), (175, 115), (130, 135), (180, 155), (190, 200), (145, 230), (90, 215)]],
    "4": [[(110, 50), (90, 145), (190, 145)], [(180, 60), (175, 230)]],
    "7": [[(85, 60), (195, 60), (160, 140), (130, 230)]],
}


@pytest.fixture(scope="module")
def good_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of the default recipe's model; the second one answers with the class two further."""
    store = tmp_path_factory.mktemp("store")
    train(configure("fast", store=store))
    publish_rolled(store / "mnist/1", store, 2)
    return store


@pytest.fixture(scope="module")
def server(good_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serves a store with version 1 alone."""
    store = tmp_path_factory.mktemp("one")
    shutil.copytree(good_store / "mnist/1", store / "mnist/1")
    with ServerProcess(tmp_path_factory.mktemp("server"), store, "--poll", 0.2) as process:
        yield process


@pytest.fixture(scope="module")
def playground(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with Playground(tmp_path_factory.mktemp("playground"), server.address, *GALLERY) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, playground: Playground) -> Iterator[Any]:
    yield from _opened(browser, playground.url)


def _opened(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """A page on which nothing may go wrong unseen."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"} | options)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda request: wrong.append(request.url) if not request.url.startswith((url, "blob:")) else None
    )
    page.goto(url)
    page.wait_for_selector("#versions tbody tr")
    yield page
    context.close()
    assert wrong == []


def _draw(page: Any, digit: str) -> None:
    box = page.locator("#paper").bounding_box()
    scale = box["width"] / 280
    for stroke in DIGITS[digit]:
        points = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=4)
        page.mouse.up()


def _verdict(page: Any, digit: str) -> None:
    page.wait_for_function("digit => document.querySelector('#verdict').textContent.startsWith(digit + ',')", arg=digit)


def _shoot(page: Any, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("digit", DIGITS)
def test_a_drawn_digit_is_recognised(page: Any, digit: str) -> None:
    _draw(page, digit)
    _verdict(page, digit)
    best = page.locator("#bars .best")
    assert best.locator(".label").text_content() == digit
    assert float(best.locator(".percent").text_content().rstrip(" %")) > 50
    assert "inked" in page.locator("#seen").get_attribute("aria-label")
    facts = page.locator("#facts").inner_text()
    assert "waiting in the queue" in facts
    assert "mnist version 1" in facts
    assert PROVIDER in facts


def test_the_answer_moves_while_drawing(page: Any) -> None:
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 240, steps=10)
    _verdict(page, "1")
    assert page.locator("#undo").is_enabled(), "the pen is still down"
    page.mouse.up()


def test_undo_and_clear(page: Any) -> None:
    _draw(page, "4")
    _verdict(page, "4")
    page.click("#undo")
    page.wait_for_function("() => !document.querySelector('#verdict').textContent.startsWith('4,')")
    page.click("#clear")
    page.wait_for_function("() => document.querySelector('#verdict').textContent === 'Draw something'")
    assert page.locator("#undo").is_disabled()
    assert page.locator("#start").is_disabled()


def test_the_keyboard_draws(page: Any) -> None:
    page.focus("#paper")
    for _ in range(11):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(22):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    _verdict(page, "1")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelector('#verdict').textContent === 'Draw something'")


def test_fingers_draw(browser: Any, playground: Playground) -> None:
    for page in _opened(
        browser, playground.url, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844}
    ):
        box = page.locator("#paper").bounding_box()
        session = page.context.new_cdp_session(page)
        for kind, y in [("touchStart", 50), *(("touchMove", y) for y in range(60, 240, 20))]:
            point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + y * box["height"] / 280}
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        _verdict(page, "1")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"the page is {width} pixels wide on a telephone of 390"
        _shoot(page, "playground-phone")


def test_a_picture_file(page: Any) -> None:
    photo = Path(__file__).resolve().parents[2] / "demo/photo.png"
    page.set_input_files("#file", photo)
    _verdict(page, "4")
    page.set_input_files("#file", Path(__file__))
    page.wait_for_selector("#notice:not([hidden])")
    assert "not a picture" in page.locator("#notice").inner_text()
    page.click("#clear")
    _draw(page, "7")
    _verdict(page, "7")
    assert page.locator("#notice").is_hidden()


def test_the_gallery(page: Any) -> None:
    page.wait_for_selector("#gallery button")
    assert page.locator("#gallery button").count() == 30
    assert "Of 10,000 images" in page.locator("#gallery-help").inner_text()
    first = page.locator("#gallery button").first
    said = first.inner_text().split("said ")[1].split(" ")[0]
    first.click()
    _verdict(page, said)


def test_a_burst_is_drawn(page: Any) -> None:
    _draw(page, "3")
    _verdict(page, "3")
    page.fill("#requests", "3000")
    page.click("#start")
    page.wait_for_function(
        "() => document.querySelector('#burst-result').textContent.includes('3,000 answers')", timeout=60000
    )
    assert "batches of" in page.locator("#burst-result").inner_text()
    assert len(page.locator("#batch-chart polyline").get_attribute("points")) > 10
    _shoot(page, "playground")
    page.emulate_media(color_scheme="dark")
    _shoot(page, "playground-dark")
    page.fill("#requests", "50000")
    page.click("#start")
    page.click("#stop")
    page.wait_for_function("() => document.querySelector('#burst-result').textContent === 'Stopped.'")


def test_a_job_beside_a_burst_is_drawn(page: Any) -> None:
    """The switch draws both: what the requests get and what the job gets."""
    _draw(page, "3")
    _verdict(page, "3")
    assert page.locator("#beside").is_hidden()
    page.fill("#requests", "4000")
    page.check("#job")
    page.click("#start")
    page.wait_for_function(
        "() => /4,000 answers.*the job beside them: [1-9][0-9,]* images a second$/"
        ".test(document.querySelector('#burst-result').textContent)",
        timeout=60000,
    )
    for chart in ("#rate-chart polyline", "#job-chart polyline.job"):
        points = page.locator(chart).get_attribute("points").split()
        assert len({point.partition(",")[2] for point in points}) > 1, f"{chart} is drawn"
    assert "job" in page.locator("#job-chart").get_attribute("aria-label")
    outside = "each => each.filter(text => text.getBBox().x < 0).map(text => text.textContent)"
    assert page.locator(".chart text").evaluate_all(outside) == [], "numbers that are cut off"
    _shoot(page, "playground-job")
    page.uncheck("#job")
    page.fill("#requests", "100")
    page.click("#start")
    page.wait_for_function("() => document.querySelector('#burst-result').textContent.includes('100 answers')")
    assert page.locator("#beside").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(page: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    _draw(page, "2")
    _verdict(page, "2")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_versions_side_by_side(browser: Any, good_store: Path, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, good_store, "--poll", 0.2) as server,
        Playground(tmp_path / "page", server.address) as playground,
    ):
        for page in _opened(browser, playground.url):
            page.wait_for_function("() => !document.querySelector('#side-by-side').disabled")
            _draw(page, "7")
            _verdict(page, "9")
            page.check("#side-by-side")
            page.wait_for_function("() => document.querySelectorAll('#versions tbody tr.differs').length === 1")
            rows = page.locator("#versions tbody tr")
            assert rows.nth(0).inner_text().split("\t")[1] == "9"
            assert rows.nth(1).inner_text().split("\t")[1] == "7"
            page.select_option("#version", "1")
            _verdict(page, "7")
            _shoot(page, "playground-versions")


def test_a_server_that_is_away_and_comes_back(browser: Any, good_store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, good_store) as server, Playground(tmp_path / "page", server.address) as playground:
        for page in _opened(browser, playground.url):
            _draw(page, "2")
            _verdict(page, "4")
            server.terminate()
            page.wait_for_selector("#notice:not([hidden])", timeout=60000)
            assert "does not answer" in page.locator("#notice").inner_text()
            _shoot(page, "playground-away")
            port = server.address.rpartition(":")[2]
            (tmp_path / "again").mkdir()
            with ServerProcess(tmp_path / "again", good_store, "--listen", f"127.0.0.1:{port}"):
                page.wait_for_selector("#notice[hidden]", state="attached", timeout=60000)
                _verdict(page, "4")


def test_the_first_touch_draws_a_dot_and_moves_nothing(page: Any) -> None:
    """A press without a movement is ink, and what is posted is that ink."""
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.url) if "/api/predict" in request.url else None)
    paper = page.locator("#paper")
    box = paper.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.wait_for_function("() => document.querySelector('#verdict').textContent.includes('%')")
    at = int(100 * 280 / box["width"])
    assert paper.evaluate("(sheet, at) => sheet.getContext('2d').getImageData(at, at, 1, 1).data[0]", at) < 64
    assert page.locator("#notice").is_hidden()
    page.mouse.up()
    assert paper.bounding_box() == box
    page.click("#clear")
    page.wait_for_function("() => document.querySelector('#verdict').textContent === 'Draw something'")
    before = len(posted)
    page.focus("#paper")
    page.keyboard.press("ArrowUp")
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.wait_for_timeout(200)
    assert len(posted) == before, "without ink there is nothing to ask"


def test_a_notice_moves_nothing(page: Any) -> None:
    before = page.locator("#paper").bounding_box()
    page.set_input_files("#file", Path(__file__))
    page.wait_for_selector("#notice:not([hidden])")
    assert page.locator("#paper").bounding_box() == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_every_width(browser: Any, playground: Playground, width: int, scheme: str) -> None:
    """Nothing is wider than its panel, tables included, and axes have whole numbers."""
    for page in _opened(browser, playground.url, viewport={"width": width, "height": 900}, color_scheme=scheme):
        _draw(page, "3")
        _verdict(page, "3")
        page.fill("#requests", "500")
        page.click("#start")
        page.wait_for_function("() => document.querySelector('#burst-result').textContent.includes('500 answers')")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            "() => [...document.querySelectorAll('.panel, .scroll, td, th, dd, li, figure')]"
            ".filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.outerHTML.slice(0, 80))"
        )
        assert cut == []
        ticks = page.locator(".chart text").all_text_contents()
        assert ticks
        assert [
            tick for tick in ticks if not tick.endswith("s") and not tick.removesuffix("K").replace(",", "").isdigit()
        ] == []
