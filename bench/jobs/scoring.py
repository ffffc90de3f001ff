"""A scoring job against one server, and against ONNX Runtime in process on the same file: `make bench-scoring`.

2,000,000 images (MNIST's, repeated and shifted by up to two pixels) lie in one .npy file. The job is `mlpserve score`
with its defaults against `mlpserve-server` as one would start it for jobs (FOR_JOBS), all on the same cores. Beside it,
the loop that one would write without a server: read 4,096 images, run them in ONNX Runtime on all cores, write the same
columns to Parquet; and the Run alone, without writing. Rounds are interleaved, medians are shown, and the job's peak
resident memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq

from bench.asking import published_model
from bench.trainer.training import cpu_name
from mlpserve_trainer.data import load

BIN = Path(sys.executable).parent
RESULTS = Path(__file__).parents[1] / "results" / "scoring.json"
CHUNK = 4096
FOR_JOBS = ["--threads", "2", "--max-batch", "1024"]  # docs/scoring.md#throughput: no single images wait beside the job
MODELS = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


def make_images(path: Path, count: int) -> None:
    """MNIST's 70,000 images again and again, each time shifted otherwise."""
    dataset = load("mnist", cache=Path(), validation=1 / 12, seed=0, image_size=None)
    parts = (dataset.train, dataset.validation, dataset.test)
    images = np.concatenate([part.images.numpy() for part in parts]).reshape(-1, 28, 28)
    generator = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 28, 28))
    for start in range(0, count, len(images)):
        part = out[start : start + len(images)]
        down, right = generator.integers(-2, 3, 2)
        part[:] = np.roll(images[: len(part)], (down, right), (1, 2))
    out.flush()


def in_process(images: Path, version: Path, precision: str, output: Path | None) -> float:
    """Images a second of a loop without a server; `output`: where it writes, None for nowhere."""
    session = ort.InferenceSession(version / MODELS[precision], providers=["CPUExecutionProvider"])
    labels = pa.array([str(n) for n in range(10)])
    array = np.load(images, mmap_mode="r")
    started = time.perf_counter()
    writer: Any = None
    for start in range(0, len(array), CHUNK):
        part = np.ascontiguousarray(array[start : start + CHUNK]).reshape(-1, 784)
        class_ids, scores = session.run(["class_ids", "scores"], {"images": part})
        if output is None:
            continue
        names = pa.DictionaryArray.from_arrays(class_ids, labels).cast(pa.string())
        rows = np.arange(start, start + len(part))
        table = pa.table({"row": rows, "predicted": names, "score": scores})
        writer = writer or pq.ParquetWriter(output, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return len(array) / (time.perf_counter() - started)


def through_server(images: Path, address: str, output: Path) -> tuple[dict[str, Any], float]:
    """The job's summary, and its peak resident memory in MB."""
    command = [str(BIN / "mlpserve"), "--server", address, "score", str(images), str(output), "--json"]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
            peak = max([peak, *(int(line.split()[1]) / 1024 for line in lines)])
            time.sleep(0.05)
        assert process.stdout is not None
        return json.loads(process.stdout.read()), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    store = published_model()
    version = max((store / "mnist").glob("[0-9]*"), key=lambda path: int(path.name))
    record: dict[str, Any] = {"machine": f"{cpu_name()}, {ort.get_device()}, onnxruntime {ort.__version__}"}
    lines = [
        "| precision | job, images/s | in-process loop | inference alone | job / loop | job's memory, MB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory(prefix="mlpserve-scoring-") as folder:
        root = Path(folder)
        images = root / "images.npy"
        make_images(images, arguments.images)
        for precision in MODELS:
            command = [str(BIN / "mlpserve-server"), "--store", str(store), "--listen", "127.0.0.1:0", *FOR_JOBS]
            with subprocess.Popen(
                [*command, "--precision", precision], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as server:
                assert server.stdout is not None
                address = server.stdout.readline().split()[-1]
                job, loop, alone, memory = [], [], [], []
                for number in range(arguments.rounds):
                    summary, peak = through_server(images, address, root / f"{precision}-{number}")
                    job.append(summary["rows_per_second"])
                    memory.append(peak)
                    loop.append(in_process(images, version, precision, root / f"{precision}-{number}.parquet"))
                    alone.append(in_process(images, version, precision, None))
                    print(
                        f"{precision} {number}: {job[-1]:,.0f} {loop[-1]:,.0f} {alone[-1]:,.0f}",
                        summary["busy_seconds"],
                    )
                server.terminate()
            medians = [statistics.median(values) for values in (job, loop, alone)]
            ratio = medians[0] / medians[1]
            lines.append(
                f"| {precision} | {medians[0]:,.0f} | {medians[1]:,.0f} | {medians[2]:,.0f} | **{ratio:.2f}** "
                f"| {max(memory):.0f} |"
            )
            record[precision] = {"job": job, "loop": loop, "alone": alone, "memory_mb": memory}
    print("\n" + "\n".join(lines))
    print(f"\n{record['machine']}, {arguments.images:,} images, medians of {arguments.rounds} rounds")
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
