"""What operators see: metrics, drift, logs, traces and the GPU.

May import models, calls, host and what is below.
"""
