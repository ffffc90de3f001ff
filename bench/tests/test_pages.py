"""The pages hold what was measured, and what is not measured is not met."""

import json
import re
from pathlib import Path

import pytest
from bench.tables import pages, report, targets
from bench.tables.report import Found, Open
from support.h2load import Measured


def _between(page: Path, name: str) -> str:
    begin = f"<!-- made by make bench-pages from {name} -->"
    return page.read_text().partition(begin)[2].partition("<!-- end -->")[0].strip()


@pytest.mark.parametrize("name", [name for name in pages.PLACES if (pages.RESULTS / name).exists()])
def test_a_page_holds_the_last_run(name: str) -> None:
    assert _between(pages.PLACES[name], name) == (pages.RESULTS / name).read_text().strip()


def test_the_comparison_is_that_of_the_benchmark() -> None:
    found = report.read(pages.RESULTS / "serving.json")
    assert _between(pages.COMPARISON, "serving.json").splitlines() == pages.compared(found)
    assert "\n".join(report.tables(found)) == (pages.RESULTS / "serving.md").read_text().strip()


def _found() -> Found:
    found = Found("a machine", 1, (0.0, 0.0, 0.0))
    for name, rate in (("mlpserve", 300.0), ("grpcio threads", 10.0), ("nghttpd", 1000.0)):
        for case in ("1 in flight", "256 in flight"):
            found.results[name][case].append(Measured(rate, 1e6 / rate, 2e6 / rate))
        found.facts[name]["memory_mb"].append(80.0)
        found.facts[name]["start_seconds"].append(1.0)
    found.open["mlpserve"][50].append(Open(150.0, 1.0, 2.0, 3.0, 0.1, 0))
    found.in_process["fp32"].append(1e5)
    return found


def test_targets_are_met_missed_or_not_measured() -> None:
    checked = {one.text: one for one in targets.check(_found())}
    assert checked["256 in flight: mlpserve / grpcio threads"].measured == 30
    assert checked["256 in flight: mlpserve / grpcio threads"].met is True
    assert checked["256 in flight: mlpserve / nghttpd"].met is False
    assert checked["256 in flight: mlpserve / grpc.aio"].met is None
    lines = "\n".join(targets.table(list(checked.values())))
    assert "| 256 in flight: mlpserve / nghttpd | 0.3 | ≥ 0.35 | **no** |" in lines
    assert "| 256 in flight: mlpserve / grpc.aio |  | ≥ 45 | not measured |" in lines


def test_the_record_has_everything(tmp_path: Path) -> None:
    found = _found()
    report.write(tmp_path, found)
    assert report.tables(report.read(tmp_path / "serving.json")) == report.tables(found)
    assert set(json.loads((tmp_path / "serving.json").read_text())["results"]) == {
        "mlpserve",
        "grpcio threads",
        "nghttpd",
    }


def test_a_page_without_a_place_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before <!-- made by make bench-pages from x.md -->old<!-- end --> after")
    pages.fill(page, "x.md", "a \\1 b")
    assert (
        re.sub(r"\s+", " ", page.read_text())
        == "before <!-- made by make bench-pages from x.md --> a \\1 b <!-- end --> after"
    )
    with pytest.raises(SystemExit, match="has no"):
        pages.fill(page, "y.md", "text")
