"""The generated stubs of every service, on one channel."""

from typing import TYPE_CHECKING

import grpc.aio

from aigateway.v1.admin_service_pb2_grpc import AdminServiceStub
from aigateway.v1.chat_service_pb2_grpc import ChatServiceStub
from aigateway.v1.embeddings_service_pb2_grpc import EmbeddingsServiceStub
from aigateway.v1.usage_service_pb2_grpc import UsageServiceStub

if TYPE_CHECKING:
    from aigateway.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from aigateway.v1.chat_service_pb2_grpc import ChatServiceAsyncStub
    from aigateway.v1.embeddings_service_pb2_grpc import EmbeddingsServiceAsyncStub
    from aigateway.v1.usage_service_pb2_grpc import UsageServiceAsyncStub


class AsyncStubs:
    """``client.stubs``: for what the methods of the client leave out."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.chat: ChatServiceAsyncStub = ChatServiceStub(channel)
        self.embeddings: EmbeddingsServiceAsyncStub = EmbeddingsServiceStub(channel)
        self.admin: AdminServiceAsyncStub = AdminServiceStub(channel)
        self.usage: UsageServiceAsyncStub = UsageServiceStub(channel)
