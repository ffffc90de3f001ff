"""A million rows among random neighbours have the bits of a Run of each row alone, whatever serves them."""

from pathlib import Path
from typing import Any

import pytest
from support.processes import ServerProcess
from tests.support.same_bits import Callers, alone, pool, served_file

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(900)]

ROWS = 500_000  # on each transport, so a million in all


def test_same_bits(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    rows = wrong = mixed = requests = 0
    images = pool(20_000)
    for precision in ("fp32", "int8"):
        expected = alone(served_file(store, precision), images)
        for threads, max_batch in ((1, 256), (2, 100)):
            flags = ["--precision", precision, "--threads", threads, "--max-batch", max_batch, "--workers", 1]
            with ServerProcess(tmp_path, store, "--transport", transport, *flags) as process:
                callers = Callers(process.address, expected, ROWS // 4, largest=1000).run()
            rows, wrong = rows + callers.rows, wrong + callers.wrong
            mixed, requests = mixed + callers.mixed, requests + callers.requests
    figures |= {"rows": rows, "requests": requests, "in a batch with others": mixed, "rows that differ": wrong}
    assert (rows, wrong) == (ROWS, 0)
    assert mixed > requests / 10
