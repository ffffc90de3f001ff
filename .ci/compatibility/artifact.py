"""The artifact as a store holds it: fixed file names and the manifest's fields as JSON has them."""

from compatibility.facts import Facts, Subject, write


def describe() -> str:
    """Today's form of an artifact."""
    from mlpserve import artifact
    from mlpserve.v1 import artifact_pb2

    facts = {"format": str(artifact.FORMAT)}
    facts |= {f"file {name}": getattr(artifact, name) for name in ("MANIFEST", "CHECKSUM", "SIGNATURE", "PROMOTED")}
    facts |= _fields("manifest", artifact_pb2.Manifest.DESCRIPTOR)
    for enum in artifact_pb2.DESCRIPTOR.enum_types_by_name.values():
        facts |= {f"{enum.name} {value.name}": str(value.number) for value in enum.values}
    return write("The artifact: its files, and manifest.json with the type of each field.", facts)


def _fields(path: str, message: "object") -> Facts:
    """PATH.FIELD → type, of a message and those in it."""
    found: Facts = {}
    for field in message.fields:  # type: ignore[attr-defined]
        name, inner = f"{path}.{field.json_name}", field.message_type
        kind = inner.name if inner else field.enum_type.name if field.enum_type else _scalar(field)
        if inner and inner.GetOptions().map_entry:
            found[name] = f"map of {_scalar(inner.fields_by_name['key'])} to {_scalar(inner.fields_by_name['value'])}"
            continue
        found[name] = ("list of " if field.is_repeated else "") + kind
        if inner and inner.file is message.file:  # type: ignore[attr-defined]
            found |= _fields(name, inner)
    return found


def _scalar(field: "object") -> str:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()  # type: ignore[attr-defined]


def names(key: str) -> tuple[str, ...]:
    """A field by its name in JSON or in the .proto."""
    last = key.split()[-1].rpartition(".")[2]
    return (last, "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in last))


SUBJECT = Subject("artifact.txt", "the artifact", describe, names)
