"""ONNX Runtime's CUDA library without the kernels that no MLP runs.

Nearly all of its machine code is for language models and for other architectures. Each module for those is overwritten
with the smallest module of its own architecture and zeros, which pack to nothing. The file's layout does not change,
and every entry stays a valid module; a kernel that is missed is an error of that Run, and the proof of the golden
samples meets every kernel before a model is served. For measuring one architecture, not to publish.

A fat binary's sections begin with 0xBA55ED50, a version, the header's size and the content's; entries have a kind (1:
PTX, 2: machine code), the header's size, the payload's and, inside the header, the architecture.
"""

import re
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MAGIC = struct.pack("<I", 0xBA55ED50)
SECTION_HEADER = 16
OPERATORS = re.compile(rb"_ZN?[0-9A-Za-z_]*11onnxruntime4cuda")
LANGUAGE_MODELS = re.compile(
    rb"11onnxruntime7contrib|cutlass|5flash|11onnxruntime3llm|cudnn_generated|10hybrid_topk|bitonic_topk|radix_topk"
)


@dataclass(frozen=True)
class Entry:
    """A module in the file: where its header begins, the sizes of header and payload, and its architecture."""

    start: int
    header: int
    payload: int
    arch: int


def entries(data: bytes | bytearray) -> list[Entry]:
    """Every module, in the order of the file.

    Raises:
        ValueError: a section is not as expected.
    """
    found: list[Entry] = []
    at = 0
    while (at := data.find(MAGIC, at)) >= 0:
        if at + SECTION_HEADER > len(data):
            break
        version, header, size = struct.unpack_from("<HHQ", data, at + 4)
        if version != 1 or header != SECTION_HEADER or at + header + size > len(data):
            at += len(MAGIC)  # four bytes that only look like it
            continue
        start, end = at + header, at + header + size
        while start < end:
            kind, _, entry_header, payload = struct.unpack_from("<HHIQ", data, start)
            if kind not in (1, 2) or not 32 <= entry_header <= 256:
                raise ValueError(f"unknown entry of a fat binary at byte {start}: kind {kind}, header {entry_header}")
            (arch,) = struct.unpack_from("<I", data, start + 28)
            found.append(Entry(start, entry_header, payload, arch))
            start += entry_header + payload
        at = end
    return found


def keep(data: bytearray, wanted: Iterable[int]) -> int:
    """Overwrite every module but those with these numbers, from 0; returns the bytes that were kept."""
    found, numbers = entries(data), set(wanted)
    smallest: dict[int, Entry] = {}
    for entry in found:
        if entry.arch not in smallest or entry.payload < smallest[entry.arch].payload:
            smallest[entry.arch] = entry
    stubs = {
        arch: bytes(data[entry.start : entry.start + entry.header + entry.payload]) for arch, entry in smallest.items()
    }
    kept = 0
    for number, entry in enumerate(found):
        stub, body = stubs[entry.arch], entry.start + entry.header
        if number in numbers or entry.header != smallest[entry.arch].header:
            kept += entry.payload
            continue
        # The small module's header, but for the payload's length, which leads to the next entry.
        data[entry.start : body] = stub[:8] + struct.pack("<Q", entry.payload) + stub[16 : entry.header]
        data[body : body + entry.payload] = stub[entry.header :].ljust(entry.payload, b"\0")
    return kept


def thin(library: Path, arch: int, cuobjdump: str) -> str:
    """Thin a library in place to the operators' kernels of one architecture; returns what was done, in words.

    Raises:
        ValueError: it has no module of this architecture, or cuobjdump sees other modules than this does.
    """
    data = bytearray(library.read_bytes())
    ours = [number for number, entry in enumerate(entries(data)) if entry.arch == arch]
    if not ours:
        there = ", ".join(f"sm_{arch}" for arch in sorted({entry.arch for entry in entries(data)}))
        raise ValueError(f"{library.name} has no machine code for sm_{arch}, only for {there}")
    with tempfile.TemporaryDirectory() as folder:
        names = _symbols(cuobjdump, library, arch, Path(folder))
    if sorted(names) != ours:
        raise ValueError(f"cuobjdump finds {len(names)} modules for sm_{arch} in {library.name}, there are {len(ours)}")
    wanted = [
        number
        for number, text in names.items()
        if len(OPERATORS.findall(text)) > 2 * len(LANGUAGE_MODELS.findall(text))
    ]
    kept = keep(data, wanted)
    library.write_bytes(data)
    return f"{len(wanted)} of {len(ours)} modules for sm_{arch} are kept, {kept / 1e6:.1f} MB"


def _symbols(cuobjdump: str, library: Path, arch: int, folder: Path) -> dict[int, bytes]:
    """The content of each module of an architecture, which names its kernels, by its number from 0."""
    for name in (f"sm_{arch}a", f"sm_{arch}"):
        command = [cuobjdump, "-xelf", name, str(library.resolve())]
        subprocess.run(command, cwd=folder, capture_output=True, check=False)  # there may be none of the first
    return {int(file.name.split(".")[-3]) - 1: file.read_bytes() for file in folder.glob("*.cubin")}
