"""Put the tables of the benchmarks' last runs into the documentation: `make bench-pages`.

A page has a place for each file of bench/results, between two comments; docs/comparison.md has ratios of the same
figures, from bench/results/serving.json.
"""

import re
import sys
from pathlib import Path

from bench.tables.report import Found, read

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench/results"
PLACES = {
    "serving.md": ROOT / "docs/benchmarks.md",
    "profile.md": ROOT / "docs/benchmarks.md",
    "clients.md": ROOT / "docs/benchmarks.md",
    "mixed.md": ROOT / "docs/mixed-traffic.md",
}
COMPARISON = ROOT / "docs/comparison.md"
CASES = ("1 in flight", "16 in flight", "256 in flight")
BASE = "grpcio threads"
NAMES = {  # as the page calls them
    "mlpserve": "mlpserve",
    "mlpserve, float32": "mlpserve, float32",
    "mosec, batching": "mosec, batching",
    "mosec": "mosec",
    BASE: "a tutorial's gRPC server, thread pool",
    "grpc.aio": "a tutorial's gRPC server, `grpc.aio`",
    "MLServer": "MLServer",
    "LitServe": "LitServe",
}


def main() -> None:
    for name, page in PLACES.items():
        if (RESULTS / name).exists():
            fill(page, name, (RESULTS / name).read_text().strip())
    if (RESULTS / "serving.json").exists():
        fill(COMPARISON, "serving.json", "\n".join(compared(read(RESULTS / "serving.json"))))


def fill(page: Path, name: str, text: str) -> None:
    """Replace what a page says between the comments of a file; ends the program if it has none."""
    begin, end = f"<!-- made by make bench-pages from {name} -->", "<!-- end -->"
    filled, places = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{text}\n\n{end}", page.read_text(), flags=re.S)
    if not places:
        sys.exit(f"{page} has no {begin}")
    page.write_text(filled)


def compared(found: Found) -> list[str]:
    """Requests a second of one image, as ratios to a tutorial's server in the same run."""
    lines = ["| server | " + " | ".join(CASES) + " |", "|---" + "|--:" * len(CASES) + "|"]
    for name, shown in NAMES.items():
        cells = []
        for case in CASES:
            ours, base = found.rate(name, case), found.rate(BASE, case)
            cells.append("1" if name == BASE else "" if ours is None or not base else f"{ours / base:.1f}×")
        if any(cells):
            lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
