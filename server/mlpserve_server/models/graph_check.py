"""Looking at an ONNX file before ONNX Runtime parses it.

Only standard operators without loops, and nothing outside the file: a model that names another operator library or
another file on this machine is not one that the trainer made. Tensors are looked for wherever the outline's schema has
a message, and what the schema does not have is refused, so that a place which nobody thought of is not one to hide in.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from mlpserve.v1.onnx_outline_pb2 import (
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    OnnxOperatorSet,
    OnnxSkipped,
    OnnxTensor,
)
from mlpserve_server.errors import ArtifactError

DEFAULT_DOMAINS = ("", "ai.onnx")
LARGEST_FILE = 1 << 30  # bytes
MAX_DEPTH = 8  # of graphs in graphs
LOOPS = (
    b"Loop",
    b"Scan",
    b"SequenceMap",
)  # one without an end would hold the start, or the thread that follows the store
SHOWN_DOMAINS, SHOWN_LETTERS = 3, 40  # of what a file says, in a message
ORT_FORMAT = b"ORTM"  # from byte 4; ONNX Runtime takes such a file for one in its own format, which is not looked at
SESSION_OPTIONS = b"ort_config"  # metadata that ONNX Runtime may take its options from


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
    if content[4:8] == ORT_FORMAT:
        raise ArtifactError(f"{where}: the file is in ONNX Runtime's own format; publish the model as ONNX")
    try:
        model = OnnxModel.FromString(content)
    except DecodeError as error:
        raise ArtifactError(f"{where}: the file is not an ONNX model; publish the model again") from error
    if model.functions or model.training_info:
        raise ArtifactError(f"{where}: the ONNX file defines functions or training steps; only plain graphs are served")
    if any(entry.key == SESSION_OPTIONS for entry in model.metadata_props):
        raise ArtifactError(f"{where}: the ONNX file brings options for ONNX Runtime (ort_config); publish it without")
    domains = set()
    for message in _messages(model, 0, where):
        if unknown := UnknownFieldSet(message):
            raise ArtifactError(
                f"{where}: the ONNX file has a field that this server does not know "
                f"({message.DESCRIPTOR.name} {unknown[0].field_number}); publish the model with ONNX 1.23 or older"
            )
        if isinstance(message, OnnxTensor) and (message.data_location or message.external_data):
            raise ArtifactError(f"{where}: a tensor lies in another file; weights must be in the ONNX file itself")
        if isinstance(message, OnnxNode) and message.op_type in LOOPS:
            name = message.op_type.decode()
            raise ArtifactError(f"{where}: the ONNX file has a {name}, which may never end; classifiers need none")
        if isinstance(message, OnnxNode | OnnxOperatorSet):
            domains.add(message.domain)
    if foreign := sorted(domains.difference(DEFAULT_DOMAINS)):
        shown = ", ".join(repr(domain[:SHOWN_LETTERS]) for domain in foreign[:SHOWN_DOMAINS])
        more = f" and {len(foreign) - SHOWN_DOMAINS} more" if len(foreign) > SHOWN_DOMAINS else ""
        raise ArtifactError(f"{where}: operators of {shown}{more}; only standard ONNX operators are served")


def _messages(message: Message, depth: int, where: Path) -> Iterator[Message]:
    """A message and all within it, outermost first; `depth` counts the graphs around it."""
    if isinstance(message, OnnxGraph):
        if depth > MAX_DEPTH:
            raise ArtifactError(f"{where}: graphs are nested more than {MAX_DEPTH} deep")
        depth += 1
    yield message
    for name in _inner_fields(message.DESCRIPTOR):
        value = getattr(message, name)
        if not isinstance(value, Message):
            for one in value:
                yield from _messages(one, depth, where)
        elif message.HasField(name):
            yield from _messages(value, depth, where)


@cache
def _inner_fields(descriptor: Descriptor) -> tuple[str, ...]:
    """The fields that hold messages which are looked at."""
    return tuple(
        field.name
        for field in descriptor.fields
        if field.message_type is not None and field.message_type is not OnnxSkipped.DESCRIPTOR
    )
