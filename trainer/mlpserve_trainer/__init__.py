"""The training job: data → fit → export → evaluate → publish. Run it as `mlpserve-train`."""

import os

# ONNX Runtime 1.32 for Linux uploads usage data unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenMP's threads spin while they wait for one another. If another process is busy, a spinning thread keeps the one
# that it waits for off the CPU, and training takes ten times as long. PyTorch reads this once, on its first import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
