"""The model server: transports → batching → codec → model → codec. Run it as `mlpserve-server`."""

import os

# ONNX Runtime 1.32 for Linux uploads usage data unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
