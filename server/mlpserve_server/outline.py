"""Looking at an ONNX file before ONNX Runtime parses it.

Only standard operators, and nothing outside the file: a model that names another operator library or another file on
this machine is not one that the trainer made.
"""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from mlpserve.v1.onnx_outline_pb2 import OnnxGraph, OnnxModel, OnnxTensor
from mlpserve_server.errors import ArtifactError

DEFAULT_DOMAINS = ("", "ai.onnx")
LARGEST_FILE = 1 << 30  # bytes
MAX_DEPTH = 8  # of graphs in graphs


def check(content: bytes, where: Path) -> None:
    """Refuse a file that asks for more than standard operators on tensors of its own.

    Args:
        content: the file.
        where: for the message.

    Raises:
        ArtifactError: it is too large, not ONNX, or asks for more.
    """
    if len(content) > LARGEST_FILE:
        raise ArtifactError(f"{where}: the ONNX file has {len(content)} bytes; this server takes up to {LARGEST_FILE}")
    try:
        model = OnnxModel.FromString(content)
    except DecodeError as error:
        raise ArtifactError(f"{where}: the file is not an ONNX model; publish the model again") from error
    if model.functions or model.training_info:
        raise ArtifactError(f"{where}: the ONNX file defines functions or training steps; only plain graphs are served")
    domains = {entry.domain for entry in model.opset_import}
    for graph in _graphs(model.graph, 0, where):
        domains.update(node.domain for node in graph.node)
        for tensor in _tensors(graph):
            if tensor.data_location or tensor.external_data:
                raise ArtifactError(f"{where}: a tensor lies in another file; weights must be in the ONNX file itself")
    if foreign := domains.difference(DEFAULT_DOMAINS):
        raise ArtifactError(
            f"{where}: operators of {', '.join(sorted(map(repr, foreign)))}; only standard ONNX operators are served"
        )


def _graphs(graph: OnnxGraph, depth: int, where: Path) -> Iterator[OnnxGraph]:
    if depth > MAX_DEPTH:
        raise ArtifactError(f"{where}: graphs are nested more than {MAX_DEPTH} deep")
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner, depth + 1, where)


def _tensors(graph: OnnxGraph) -> Iterator[OnnxTensor]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
