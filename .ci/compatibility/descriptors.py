"""The gRPC contracts as a FileDescriptorSet in JSON, which `buf breaking` reads too.

The rules are those of buf's levels FILE and WIRE_JSON; tests/contract/test_rules.py holds them against buf.
"""

from collections.abc import Iterator

from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.protobuf.message import Message

from compatibility.facts import Facts, Subject

LABEL, TYPE = FieldDescriptorProto.Label, FieldDescriptorProto.Type


def today() -> FileDescriptorSet:
    """The published contracts and what they import, dependencies first."""
    from mlpserve.v1 import artifact_pb2, classifier_pb2, open_inference_pb2

    found = FileDescriptorSet()
    seen: set[str] = set()

    def add(file: "object") -> None:
        for dependency in file.dependencies:  # type: ignore[attr-defined]
            add(dependency)
        if file.name not in seen:  # type: ignore[attr-defined]
            seen.add(file.name)  # type: ignore[attr-defined]
            file.CopyToProto(found.file.add())  # type: ignore[attr-defined]

    for module in (artifact_pb2, classifier_pb2, open_inference_pb2):
        add(module.DESCRIPTOR)
    return found


def describe() -> str:
    """Today's set in JSON."""
    return json_format.MessageToJson(today(), indent=1) + "\n"


def facts(text: str) -> Facts:
    """What callers rely on in a set; Google's own files are Google's business."""
    files = json_format.Parse(text, FileDescriptorSet()).file
    return {key: value for file in files if not file.name.startswith("google/") for key, value in _file(file)}


Pairs = Iterator[tuple[str, str]]


def _file(file: FileDescriptorProto) -> Pairs:
    yield f"file {file.name}", f"package {file.package}, syntax {file.syntax or 'proto2'}{_options(file)}"
    for message in file.message_type:
        yield from _message(file.package, message, file.name)
    for enum in file.enum_type:
        yield from _enum(file.package, enum, file.name)
    for service in file.service:
        yield from _service(file.package, service, file.name)


def _message(scope: str, message: DescriptorProto, file: str) -> Pairs:
    name = f"{scope}.{message.name}"
    yield f"message {name}", f"in {file}{_options(message)}"
    oneofs = [oneof.name for oneof in message.oneof_decl]
    for field in message.field:
        oneof = oneofs[field.oneof_index] if field.HasField("oneof_index") else ""
        yield f"field {name} {field.number}", _field(field, oneof)
    yield from ((f"oneof {name} {oneof}", "") for oneof in oneofs)
    yield from ((f"reserved {name} {span.start}-{span.end - 1}", "") for span in message.reserved_range)
    yield from ((f"reserved {name} {reserved}", "") for reserved in message.reserved_name)
    for nested in message.nested_type:
        yield from _message(name, nested, file)
    for enum in message.enum_type:
        yield from _enum(name, enum, file)


def _field(field: FieldDescriptorProto, oneof: str) -> str:
    kind = field.type_name.lstrip(".") or TYPE.Name(field.type).removeprefix("TYPE_").lower()
    presence = "optional" if field.proto3_optional else LABEL.Name(field.label).removeprefix("LABEL_").lower()
    more = f", oneof {oneof}" if oneof and not field.proto3_optional else ""
    more += f", default {field.default_value}" if field.default_value else ""
    return f"{field.name}, {presence} {kind}, {field.json_name} in JSON{more}{_options(field)}"


def _enum(scope: str, enum: EnumDescriptorProto, file: str) -> Pairs:
    name = f"{scope}.{enum.name}"
    yield f"enum {name}", f"in {file}{_options(enum)}"
    yield from ((f"value {name} {value.number} {value.name}", "") for value in enum.value)
    yield from ((f"reserved {name} {span.start}-{span.end}", "") for span in enum.reserved_range)
    yield from ((f"reserved {name} {reserved}", "") for reserved in enum.reserved_name)


def _service(scope: str, service: ServiceDescriptorProto, file: str) -> Pairs:
    name = f"{scope}.{service.name}"
    yield f"service {name}", f"in {file}"
    for method in service.method:
        takes = ("stream " if method.client_streaming else "") + method.input_type.lstrip(".")
        gives = ("stream " if method.server_streaming else "") + method.output_type.lstrip(".")
        yield f"rpc {name}.{method.name}", f"{takes} → {gives}{_options(method)}"


def _options(thing: Message) -> str:
    """Whatever is set of `option …`, `[jstype = …]` and the like, but for what only warns."""
    options = type(options_of := thing.options)()  # type: ignore[attr-defined]
    options.CopyFrom(options_of)
    options.ClearField("deprecated")
    words = str(options).split()
    return f" [{' '.join(words)}]" if words else ""


def names(key: str) -> tuple[str, ...]:
    """A field by its message, an rpc by its own name; a message of a new rpc by that of the rpc."""
    kind, *rest = key.split()
    if kind == "file":
        return (rest[0], rest[0].rpartition("/")[2])
    last = [part for part in rest[0].split(".") if part[:1].isupper()]
    stems = [part.removesuffix("Request").removesuffix("Response") for part in last]
    return tuple(dict.fromkeys([*last, *stems, rest[0]]))


SUBJECT = Subject("descriptors.json", "the contract", describe, names, facts=facts)
