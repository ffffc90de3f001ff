"""Server reflection, v1 and v1alpha: the same messages under two names, and callers try either first."""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

ALPHA = reflection.SERVICE_NAME
V1 = ALPHA.replace(".v1alpha.", ".v1.")
METHOD = "ServerReflectionInfo"


def handlers(names: Sequence[str]) -> dict[str, dict[str, "grpc.RpcMethodHandler[Any, Any]"]]:
    """Service → method → handler, of both versions.

    Args:
        names: of the services that they list beside themselves.
    """
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer((*names, ALPHA, V1))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return {ALPHA: {METHOD: handler}, V1: {METHOD: handler}}


def _describe_v1() -> None:
    """Let v1 be described too; Python's package has v1alpha only, and v1 differs from it in its package alone."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(V1)
    except KeyError:
        described = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(described)
        described.name = described.name.replace("v1alpha", "v1")
        described.package = described.package.replace("v1alpha", "v1")
        for message in described.message_type:
            for field in message.field:
                if field.type_name:
                    field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
        for method in described.service[0].method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
        pool.AddSerializedFile(described.SerializeToString())
