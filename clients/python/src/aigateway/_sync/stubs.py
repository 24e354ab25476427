# Made from _async by tools/make_sync.py: edit there, then run it.
"""The generated stubs of every service, on one channel."""

from typing import TYPE_CHECKING

import grpc

from aigateway.v1.admin_service_pb2_grpc import AdminServiceStub
from aigateway.v1.chat_service_pb2_grpc import ChatServiceStub
from aigateway.v1.embeddings_service_pb2_grpc import EmbeddingsServiceStub
from aigateway.v1.usage_service_pb2_grpc import UsageServiceStub

if TYPE_CHECKING:
    from aigateway.v1.admin_service_pb2_grpc import AdminServiceStub
    from aigateway.v1.chat_service_pb2_grpc import ChatServiceStub
    from aigateway.v1.embeddings_service_pb2_grpc import EmbeddingsServiceStub
    from aigateway.v1.usage_service_pb2_grpc import UsageServiceStub


class Stubs:
    """``client.stubs``: for what the methods of the client leave out."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.chat: ChatServiceStub = ChatServiceStub(channel)
        self.embeddings: EmbeddingsServiceStub = EmbeddingsServiceStub(channel)
        self.admin: AdminServiceStub = AdminServiceStub(channel)
        self.usage: UsageServiceStub = UsageServiceStub(channel)
