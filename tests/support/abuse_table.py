"""The table of docs/guarantees.md on what hostile callers cost, from what tests/guarantees/test_abuse.py measured.

python -m tests.support.abuse_table
"""

import json
import re
import statistics
from pathlib import Path
from typing import Any

from support.machine import machine
from tests.support.abuses import ABUSES

ROOT = Path(__file__).resolve().parents[2]
MEASURED, PAGE = ROOT / "build/guarantees.json", ROOT / "docs/guarantees.md"
BEGIN, END = "<!-- abuse: written by make bench-abuse -->", "<!-- end of abuse -->"
WAYS = {
    "wire": "wire",
    "wire-with-tokens": "wire, strangers without a token",
    "wire-behind-Envoy": "wire behind the gateway",
    "wire-with-TLS": "wire",
    "grpcio": "grpcio",
}
COLUMNS = [*dict.fromkeys(WAYS.values())]


def main() -> None:
    """Write the table into the page."""
    measured = _measured()
    text = "\n".join([BEGIN, "", *_table(measured), "", END])
    page = PAGE.read_text()
    assert BEGIN in page, f"{PAGE} has no place for the table"
    PAGE.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: text, page, flags=re.DOTALL))
    print(text)


def _measured() -> dict[tuple[str, str], dict[str, Any]]:
    """Figures by abuse and way."""
    found = {}
    for test, figures in json.loads(MEASURED.read_text()).items():
        parts = re.fullmatch(r"test_abuse\[(.*)\]", test)
        for way in sorted(WAYS, key=len, reverse=True) if parts and "MB at most" in figures else ():
            if parts and parts[1].startswith(f"{way}-") and parts[1].removeprefix(f"{way}-") in ABUSES:
                found[parts[1].removeprefix(f"{way}-"), way] = figures
                break
    return found


def _table(measured: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    lines = [
        f"{machine()}; server, callers and gateway share the cores. In each cell: the server's peak memory, "
        "then p50 and p99 of the well-behaved calls beside it.",
        "",
        "| beside | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
        "| nothing | " + " | ".join(_quiet(measured, column) for column in COLUMNS) + " |",
    ]
    for name, abuse in ABUSES.items():
        cells = []
        for column in COLUMNS:
            figures = next((measured[key] for key in measured if key[0] == name and WAYS[key[1]] == column), None)
            cells.append("" if figures is None else _cell(figures))
        lines.append(f"| {abuse.words} | " + " | ".join(cells) + " |")
    return lines


def _quiet(measured: dict[tuple[str, str], dict[str, Any]], column: str) -> str:
    quiet = [figures for (_, way), figures in measured.items() if WAYS[way] == column]
    if not quiet:
        return ""
    p50, p99 = (statistics.median(figures[f"quiet p{p} ms"] for figures in quiet) for p in (50, 99))
    return f"{p50:.1f} / {p99:.1f} ms"


def _cell(figures: dict[str, Any]) -> str:
    lost = figures["failed"] + figures["of them without an answer"]
    words = f"{figures['MB at most']:.0f} MB, {figures['p50 ms']:.1f} / {figures['p99 ms']:.1f} ms"
    return words + (f", {lost} of {figures['calls'] + figures['new callers']} failed" if lost else "")


if __name__ == "__main__":
    main()
