"""Text of others on its way to a line of a log, a terminal or a page."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpserve.shown import MOST, shown
from mlpserve_server.observe.log_format import JsonFormatter, TextFormatter

FORGED = "x\n2026-01-01 00:00:00,000 CRITICAL all is lost\r\x1b[2J\x00\x9b31m\u202egnp"


@given(st.text())
def test_text_of_others_stays_on_its_line_and_obeys_nothing(text: str) -> None:
    safe = shown(text)
    assert safe.isprintable()
    assert len(safe) <= 10 * MOST + 40
    if text.isprintable() and len(text) <= MOST:
        assert safe == text


def test_long_text_is_cut_and_says_so() -> None:
    assert shown("y" * 100_000, 20) == "y" * 20 + "… (100,000 characters)"
    assert shown(FORGED).startswith(r"x\n2026")
    assert r"\x1b[2J\x00\x9b31m\u202e" in shown(FORGED)


def _record(message: str, error: Exception | None = None, **fields: object) -> logging.LogRecord:
    information = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("name", logging.WARNING, "path", 1, message, (), information)
    record.fields = fields
    return record


@pytest.mark.parametrize("place", ["message", "field", "error"])
def test_nobody_writes_lines_of_their_own_into_the_log(place: str) -> None:
    error = None
    if place == "error":
        try:
            raise ValueError(FORGED)
        except ValueError as raised:
            error = raised
    record = _record(FORGED if place == "message" else "event", error, request_id=FORGED if place == "field" else "a")
    text = TextFormatter("%(asctime)s %(levelname)s %(message)s").format(record)
    first, *others = text.split("\n")
    assert all(line.startswith("    ") for line in others)
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(first) < 600
    (line,) = JsonFormatter({}).format(record).splitlines()
    said = json.loads(line)
    assert (said["message"] if place != "field" else said["request_id"]).isprintable()


def test_a_line_of_the_log_is_bounded() -> None:
    record = _record("z" * 300_000, request_id="z" * 300_000, count=3)
    assert len(TextFormatter("%(message)s").format(record)) < 3000
    said = json.loads(JsonFormatter({}).format(record))
    assert len(said["request_id"]) < 400
    assert said["count"] == 3
    assert len(said["message"]) < 3000
