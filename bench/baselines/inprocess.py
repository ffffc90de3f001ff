"""ONNX Runtime in this process, one thread: the limit that a server can come close to. Prints images/s as JSON.

python bench/baselines/inprocess.py FOLDER_OF_A_VERSION
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime as ort

IMAGES = 1024


def main() -> None:
    folder = Path(sys.argv[1])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 784)).astype(np.uint8)
    sessions = {
        name: ort.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
        for name, file in (("fp32", "model.onnx"), ("int8", "model.int8.onnx"))
    }
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(40):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(["class_ids", "scores", "probabilities"], {"images": images})
            seconds[name].append(time.perf_counter() - started)
    print(json.dumps({name: IMAGES / statistics.median(times) for name, times in seconds.items()}))


if __name__ == "__main__":
    main()
