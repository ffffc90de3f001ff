"""The Spark recipe of docs/scoring.md, on Arrow batches as Spark hands them over."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from support.mnist import mnist_images
from support.processes import ServerProcess
from tests.support.documents import ROOT, blocks

from mlpserve_client import Client

Batches = Iterator[pa.RecordBatch]


class Frame:
    """What `mapInArrow` does to a data frame, without a cluster."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self._batches = batches
        self.write = self

    def mapInArrow(self, function: Callable[[Batches], Batches], schema: str) -> "Frame":  # noqa: N802
        assert schema == "id long, predicted string, score float"
        return Frame(list(function(iter(self._batches))))

    def parquet(self, path: str) -> None:
        Frame.written = pa.Table.from_batches(self._batches)  # type: ignore[attr-defined]


def test_the_spark_recipe(server: ServerProcess, tmp_path: Path) -> None:
    (block,) = [block for block in blocks(ROOT / "docs/scoring.md") if "mapInArrow" in block.code]
    images = mnist_images()[:300]
    batches = [
        pa.RecordBatch.from_pydict({"id": list(range(i, i + 100)), "image": [x.tobytes() for x in images[i : i + 100]]})
        for i in range(0, 300, 100)
    ]
    code = block.code.replace("mlpserve:50051", server.address).replace("version=3", "version=1")
    names: dict[str, Any] = {"frame": Frame(batches)}
    exec(compile(code, block.name, "exec"), names)
    written = Frame.written  # type: ignore[attr-defined]
    with Client(server.address) as client:
        expected = client.predict(images).labels
    assert written["id"].to_pylist() == list(range(300))
    assert written["predicted"].to_pylist() == list(expected)
