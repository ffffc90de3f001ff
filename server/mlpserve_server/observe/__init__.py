"""What operators see: metrics, drift, logs, traces and the GPU; may import models, calls, host and what is below."""
