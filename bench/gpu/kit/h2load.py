"""The load generator h2load with the libraries that it needs, for a machine that has neither."""

import shutil
import subprocess
from pathlib import Path

from support.h2load import need_h2load

# Of the system that it was built on; used where the machine's own are too old for it.
SYSTEM = ("libc.so", "libm.so", "libstdc++", "libgcc_s", "ld-linux")


def pack(folder: Path) -> None:
    """h2load.bin, lib/ (its own libraries) and system/ (libc and the loader) into a folder."""
    need_h2load()
    program = shutil.which("h2load")
    assert program
    for name in ("lib", "system"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(program, folder / "h2load.bin")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        words = line.split()
        path = words[2] if "=>" in words and words[2].startswith("/") else words[0]
        if path.startswith("/"):
            kind = "system" if Path(path).name.startswith(SYSTEM) else "lib"
            shutil.copy(path, folder / kind)


def install(packed: Path, programs: Path) -> str:
    """Make a program of what `pack` has packed; returns what became of it, in words."""
    program = programs / "h2load"
    loader = next((packed / "system").glob("ld-linux*"))
    plain = f'LD_LIBRARY_PATH="{packed}/lib" exec "{packed}/h2load.bin"'
    own = f'exec "{loader}" --library-path "{packed}/system:{packed}/lib" "{packed}/h2load.bin"'
    for command, how in ((plain, "runs"), (own, "runs with its own C library")):
        program.write_text(f'#!/bin/sh\n{command} "$@"\n')
        program.chmod(0o755)
        if subprocess.run([str(program), "--version"], capture_output=True, check=False).returncode == 0:
            return f"h2load {how}"
    program.unlink()
    return "h2load does not run here; Python callers take its place, and measure themselves"
