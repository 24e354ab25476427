"""Server reflection, v1 and v1alpha, so that grpcurl and its kin need no proto files.

grpcio-reflection serves v1alpha only. v1 has the same messages in another package
(https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto), so one servicer
answers both, and the description of v1 is made from that of v1alpha.
"""

from collections.abc import Iterable
from typing import Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1ALPHA: Final = reflection.SERVICE_NAME
V1: Final = V1ALPHA.replace("v1alpha", "v1")
_METHOD: Final = "ServerReflectionInfo"


class _SymbolPool:
    """The default pool, which also finds the methods of services; grpcurl asks for them by name."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """The file that a symbol stands in; raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


def add_reflection(server: grpc.aio.Server, service_names: Iterable[str]) -> None:
    """Adds both versions to ``server``; they tell of ``service_names`` and of themselves."""
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer((*service_names, V1, V1ALPHA), pool=_SymbolPool())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, {_METHOD: handler}) for name in (V1, V1ALPHA))
    )


def _describe_v1() -> None:
    """Puts the description of v1 into the default pool; doing it twice changes nothing."""
    text = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(text)
    text.name = "grpc/reflection/v1/reflection.proto"
    text.package = "grpc.reflection.v1"
    for message in text.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = field.type_name.replace("v1alpha", "v1")
    for method in text.service[0].method:
        method.input_type = method.input_type.replace("v1alpha", "v1")
        method.output_type = method.output_type.replace("v1alpha", "v1")
    descriptor_pool.Default().AddSerializedFile(text.SerializeToString())
