"""Python client of AI Gateway: ``Client`` and ``AsyncClient``.

Messages and enums of the contract are in ``aigateway.types``.
"""

from aigateway import types
from aigateway._async.chat import AsyncChatStream
from aigateway._async.client import AsyncClient
from aigateway._sync.chat import ChatStream
from aigateway._sync.client import Client
from aigateway._version import __version__
from aigateway.channel import Tls
from aigateway.errors import (
    AuthenticationError,
    BudgetExceededError,
    CallCancelledError,
    ConflictError,
    DeadlineExceededError,
    FieldViolation,
    GatewayError,
    GuardrailBlockedError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SlowReaderError,
    StreamProtocolError,
    UnavailableError,
    UnimplementedError,
    UpstreamError,
)
from aigateway.fold import ChatAccumulator, fold_events
from aigateway.messages import (
    assistant,
    audio,
    completion_text,
    completion_tool_calls,
    developer,
    document,
    document_text,
    document_url,
    function_tool,
    image,
    image_url,
    json_schema_format,
    system,
    text,
    tool_result,
    user,
)
from aigateway.options import ChatOptions, chat_request

__all__ = [
    "AsyncChatStream",
    "AsyncClient",
    "AuthenticationError",
    "BudgetExceededError",
    "CallCancelledError",
    "ChatAccumulator",
    "ChatOptions",
    "ChatStream",
    "Client",
    "ConflictError",
    "DeadlineExceededError",
    "FieldViolation",
    "GatewayError",
    "GuardrailBlockedError",
    "InternalError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "SlowReaderError",
    "StreamProtocolError",
    "Tls",
    "UnavailableError",
    "UnimplementedError",
    "UpstreamError",
    "__version__",
    "assistant",
    "audio",
    "chat_request",
    "completion_text",
    "completion_tool_calls",
    "developer",
    "document",
    "document_text",
    "document_url",
    "fold_events",
    "function_tool",
    "image",
    "image_url",
    "json_schema_format",
    "system",
    "text",
    "tool_result",
    "types",
    "user",
]
