"""The training job: data → fit → export → evaluate → publish. Run it as `mlpserve-train`."""

import os

# ONNX Runtime 1.32 for Linux uploads usage data unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
