"""The training job: data → fit → export → evaluate → publish. Run it as `mlpserve-train`."""

import os

# ONNX Runtime 1.32 for Linux uploads usage data unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenMP's threads spin while they wait for one another. Beside any other busy process the one that is waited for does
# not run meanwhile, and training takes ten times as long. Read once, when PyTorch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
