"""Write mlpserve.binpb, by which Envoy turns JSON into our messages: `make descriptors`.

The contract itself has no google.api.http annotations, so that its stubs need nothing that only a gateway reads; they
are added here.
"""

from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from mlpserve.v1 import artifact_pb2, classifier_pb2

RULES = {
    "Predict": http_pb2.HttpRule(post="/v1/models/{model}:predict", body="*"),
    "GetModel": http_pb2.HttpRule(get="/v1/models/{model}"),
    "ListModels": http_pb2.HttpRule(get="/v1/models"),
}
OUT = Path(__file__).with_name("mlpserve.binpb")


def descriptors() -> bytes:
    """A FileDescriptorSet of the contract and what it imports, dependencies first."""
    files = FileDescriptorSet()
    seen: set[str] = set()

    def add(descriptor: "object") -> None:
        for dependency in descriptor.dependencies:  # type: ignore[attr-defined]
            add(dependency)
        if descriptor.name not in seen:  # type: ignore[attr-defined]
            seen.add(descriptor.name)  # type: ignore[attr-defined]
            descriptor.CopyToProto(files.file.add())  # type: ignore[attr-defined]

    # Status and its details: errors become JSON too.
    for module in (annotations_pb2, status_pb2, error_details_pb2, artifact_pb2, classifier_pb2):
        add(module.DESCRIPTOR)
    for method in files.file[-1].service[0].method:
        method.options.Extensions[annotations_pb2.http].CopyFrom(RULES[method.name])
    return files.SerializeToString(deterministic=True)


if __name__ == "__main__":
    OUT.write_bytes(descriptors())
