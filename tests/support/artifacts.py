"""Versions of a published model that can be told apart, and versions that are broken, without training."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import json_format
from onnx import helper, numpy_helper

from mlpserve.v1.artifact_pb2 import GoldenSamples, Manifest

MODELS = ("model.onnx", "model.int8.onnx")
BREAKAGES = ("tampered", "truncated", "wrong shape", "golden mismatch", "wrong class count")


def publish_rolled(source: Path, store: Path, number: int, *, broken: str = "") -> Path:
    """Publish a copy of a version as `number`, with every class id c turned into (c + number) mod C.

    So the answers show which version gave them.

    Args:
        source: folder of a version.
        store: where to publish.
        number: of the new version.
        broken: one of BREAKAGES, or empty for a good version.
    """
    model_folder = store / source.parent.name
    model_folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".publishing-", dir=model_folder)) / "version"
    shutil.copytree(source, folder)
    manifest = json_format.Parse((folder / "manifest.json").read_bytes(), Manifest())
    manifest.version = number
    classes = len(manifest.labels)
    for name in MODELS:
        model = onnx.load(folder / name)
        _roll_outputs(model, number + (broken == "golden mismatch"), classes)
        if broken == "wrong shape":
            del model.graph.output[:]
            output = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", classes])
            model.graph.output.append(output)
        content = model.SerializeToString()
        (folder / name).write_bytes(content[: len(content) // 2] if broken == "truncated" else content)
    golden = GoldenSamples.FromString((folder / "golden.binpb").read_bytes())
    for answers in golden.answers:
        answers.class_ids[:] = [(class_id + number) % classes for class_id in answers.class_ids]
        rows = np.array(answers.probabilities, np.float32).reshape(-1, classes)
        answers.probabilities[:] = np.roll(rows, number, axis=1).ravel().tolist()
    (folder / "golden.binpb").write_bytes(golden.SerializeToString())
    if broken == "wrong class count":
        del manifest.labels[-1]
    seal(folder, manifest)
    if broken == "tampered":
        content = bytearray((folder / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "model.onnx").write_bytes(content)
    published = folder.rename(model_folder / str(number))
    folder.parent.rmdir()
    return published


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with the digests that the files have now."""
    for entry in manifest.files:
        content = (folder / entry.path).read_bytes()
        entry.sha256, entry.size_bytes = hashlib.sha256(content).hexdigest(), len(content)
    text = json_format.MessageToJson(manifest, indent=2).encode() + b"\n"
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.json\n")


def digest(folder: Path) -> str:
    """What names the version in answers."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def _roll_outputs(model: onnx.ModelProto, by: int, classes: int) -> None:
    """Roll the weights and the bias of the last layer along the classes."""
    gemm = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
    for tensor in model.graph.initializer:
        if tensor.name in gemm.input[1:]:
            array = numpy_helper.to_array(tensor)
            axis = next(axis for axis, size in enumerate(array.shape) if size == classes)
            tensor.CopyFrom(numpy_helper.from_array(np.roll(array, by, axis=axis), tensor.name))


def publish_many(source: Path, store: Path, numbers: Iterable[int]) -> None:
    """Publish copies of a version under other numbers, each with a manifest of its own; the files are links to one."""
    text = (source / "manifest.json").read_text()
    mark = f'"version": {source.name},'
    assert text.count(mark) == 1
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file() and "manifest" not in path.name]
    for number in numbers:
        folder = store / source.parent.name / str(number)
        folder.mkdir(parents=True)
        for subfolder in {path.parent for path in files} - {Path()}:
            (folder / subfolder).mkdir()
        for path in files:
            (folder / path).hardlink_to(source / path)
        content = text.replace(mark, f'"version": {number},').encode()
        (folder / "manifest.json").write_bytes(content)
        (folder / "manifest.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")
