"""The record of a GPU: what is kept, and the page that is made of it."""

from pathlib import Path

import pytest
from bench.gpu import found, record
from bench.gpu.found import Found, Row
from bench.gpu.record import FAILED, OK, OUT_OF_TIME, SKIPPED, Outcome, Record
from hypothesis import given
from hypothesis import strategies as st


def _record() -> Record:
    rows = [
        Row("p50", 181.5, "182 µs", "≤ 250 µs", True),
        Row("requests/s", 90_000, "90,000", "≥ 100,000", False),
        Row("memory", 3, "3 MiB"),
    ]
    wrong = [Row("classes other than the CPU's", 2, "2", "0", False, must=True)]
    outcomes = [
        Outcome("loads", "the model loads", 1, OK, 3.2),
        Outcome("answers", "all classes", 1, FAILED, 1.0, "classes: 2, but 0 is needed", wrong),
        Outcome("grpc", "requests over loopback", 2, OK, 60, "", rows),
        Outcome("memory", "memory over requests", 2, OUT_OF_TIME, 120, "the time is up"),
    ]
    return Record("NVIDIA H100", "16 cores, driver 580", {"torch": "2.11.0", "grpcio": "1.85.3"}, outcomes)


def test_the_page_shows_figures_against_targets_and_what_failed_first() -> None:
    text = record.page(_record())
    assert text.startswith("# NVIDIA H100\n")
    assert "16 cores, driver 580." in text
    assert "torch 2.11.0, grpcio 1.85.3." in text
    assert "| p50 | 182 µs | ≤ 250 µs | holds |" in text
    assert "| requests/s | 90,000 | ≥ 100,000 | **missed** |" in text
    assert "| memory | 3 MiB |  |  |" in text
    failed = text.index("## What failed")
    assert failed < text.index("## Part 1") < text.index("## Part 2")
    assert "| all classes | failed | classes other than the CPU's: 2, 0 needed |" in text
    assert "| memory over requests | out of time | the time is up |" in text
    assert "loads 3 s, answers failed 1 s" in text


def test_a_page_without_failures_has_no_such_section() -> None:
    assert "failed" not in record.page(Record("GPU", "", {}, [Outcome("loads", "", 1, OK)]))


def test_only_what_must_hold_is_wrong() -> None:
    whole = _record()
    assert whole.wrong == ["classes other than the CPU's: 2, 0 needed"]
    whole.put(Outcome("loads", "the model loads", 1, FAILED, 1, "no driver"))
    assert whole.wrong[0] == "loads: no driver"


def test_a_later_part_goes_into_the_same_record(tmp_path: Path) -> None:
    page = record.write(_record(), tmp_path)
    assert page.name == "nvidia-h100.md"
    assert page.read_text() == record.page(_record())
    whole = record.read(tmp_path, "NVIDIA H100")
    assert whole == _record()
    whole.put(Outcome("grpc", "requests over loopback", 2, SKIPPED, said="no time"))
    assert whole == _record(), "what was measured is not replaced by nothing"
    whole.put(Outcome("grpc", "requests over loopback", 2, OK, 50, "", [Row("p50", 170, "170 µs")]))
    assert [outcome.name for outcome in whole.outcomes] == ["loads", "answers", "grpc", "memory"]
    assert whole.figures["p50"] == 170
    assert record.read(tmp_path, "NVIDIA H200") == Record("NVIDIA H200")


@given(st.text(), st.text(), st.text(), st.sampled_from([None, True, False]))
def test_whatever_a_check_says_stays_in_its_cell(what: str, shown: str, target: str, holds: bool | None) -> None:
    rows = [Row(what, 0, shown, target, holds)]
    text = record.page(Record("GPU", "", {}, [Outcome("x", what, 1, FAILED, 0, shown, rows)]))
    table = [line for line in text.split("\n") if line.startswith("| ")]
    assert len(table) >= 2, "a row of the check and one of what it found"
    for line in table:
        assert line.endswith("|")
        assert line.replace("\\\\", "").replace("\\|", "").count("|") in (4, 5)
    assert "<" not in text
    assert text.replace("\n", "").isprintable()


def test_what_a_check_finds_is_kept_while_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    rows = Found(file)
    rows.add("p50", 300, "300 µs", "≤ 250 µs", False)
    assert found.read(file) == rows.rows
    assert rows.wrong() == []
    rows.require("classes", 1, "1 other", "0", False)
    assert found.read(file) == rows.rows
    assert rows.wrong() == ["classes: 1 other, but 0 is needed"]
    assert capsys.readouterr().out == "p50: 300 µs (≤ 250 µs) missed\nclasses: 1 other (0) WRONG\n"
    file.write_text('[{"what": "cut')
    assert found.read(file) == []
