"""Run in the environment with onnxruntime-gpu: every file of a folder on the GPU, against the CPU: `place.py FOLDER`.

A session may not fall back to the CPU for a single node. Prints a line a file: its name, and the largest difference.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from mlpserve_server.models import cuda_libraries
from mlpserve_server.models.loading import CUDA_OPTIONS
from mlpserve_server.models.model import CPU, CUDA

SIZES = (1, 3, 70)


def main() -> None:
    cuda_libraries.load(0)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    for file in sorted(Path(sys.argv[1]).glob("*.onnx")):
        content = file.read_bytes()
        on_gpu = ort.InferenceSession(content, options, providers=[(CUDA, CUDA_OPTIONS)], enable_fallback=0)
        on_cpu = ort.InferenceSession(content, providers=[CPU])
        pixels = on_gpu.get_inputs()[0].shape[1]
        worst = 0.0
        for size in SIZES:
            images = np.random.default_rng(size).integers(0, 256, (size, pixels), np.uint8)
            images[-1] = images[0]
            answers = zip(on_gpu.run(None, {"images": images}), on_cpu.run(None, {"images": images}), strict=True)
            worst = max(worst, *(float(np.abs(ours.astype(float) - theirs).max()) for ours, theirs in answers))
        print(file.name, worst)


if __name__ == "__main__":
    main()
