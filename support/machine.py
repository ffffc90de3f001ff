"""The machine that figures are measured on."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Cores, processor and Python, as benchmarks and guarantees name them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    vector = (
        "AVX-512 VNNI"
        if "avx512_vnni" in flags
        else "AVX-512"
        if "avx512f" in flags
        else "AVX2"
        if "avx2" in flags
        else ""
    )
    return f"{os.cpu_count()} cores, {model} ({vector}), Python {platform.python_version()}"
