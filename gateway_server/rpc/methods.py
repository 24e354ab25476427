"""The RPCs of the contract and who may call them, read from the descriptors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from aigateway.v1 import (
    admin_service_pb2,
    chat_service_pb2,
    embeddings_service_pb2,
    permission_pb2,
    usage_service_pb2,
)
from aigateway.v1.permission_pb2 import Scope

_MODEL_SERVICES: Final = frozenset({"aigateway.v1.ChatService", "aigateway.v1.EmbeddingsService"})
_FILES: Final = (chat_service_pb2, embeddings_service_pb2, admin_service_pb2, usage_service_pb2)


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. An empty ``scopes`` means that nobody may call it."""

    service: str
    name: str
    request_type: type[Message]
    response_streaming: bool
    scopes: frozenset[Scope.ValueType]
    has_gateway_options: bool

    @property
    def is_model_call(self) -> bool:
        """Whether it asks a model, so that the ledger has a row of each call."""
        return self.service in _MODEL_SERVICES

    @property
    def full_name(self) -> str:
        """``package.Service/Method``."""
        return f"{self.service}/{self.name}"


def service_descriptors() -> tuple[ServiceDescriptor, ...]:
    """The services of the contract."""
    return tuple(service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values())


def methods_of(service: ServiceDescriptor) -> Mapping[str, Method]:
    """The RPCs of one service by name."""
    return {method.name: _method(service, method) for method in service.methods}


def all_methods() -> Iterator[Method]:
    """Every RPC of the contract."""
    for service in service_descriptors():
        yield from methods_of(service).values()


def _method(service: ServiceDescriptor, method: MethodDescriptor) -> Method:
    permission = method.GetOptions().Extensions[permission_pb2.permission]
    scopes = set(permission.any_of)
    if Scope.SCOPE_ADMIN_READ in scopes:
        scopes.add(Scope.SCOPE_ADMIN_WRITE)  # the scope to change includes the scope to read
    return Method(
        service=service.full_name,
        name=method.name,
        request_type=GetMessageClass(method.input_type),
        response_streaming=method.server_streaming,
        scopes=frozenset(scopes),
        has_gateway_options="gateway_options" in method.input_type.fields_by_name,
    )
