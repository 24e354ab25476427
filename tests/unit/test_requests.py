"""Request bytes as a valid message."""

import pytest

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Message
from gateway_server.errors import GatewayError
from gateway_server.rpc.methods import all_methods
from gateway_server.rpc.requests import parse_request

CREATE = next(method for method in all_methods() if method.name == "CreateChatCompletion")


def refusal(request: CreateChatCompletionRequest) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        parse_request(CREATE, request.SerializeToString())
    return caught.value


def test_all_faults_of_a_request_of_ordinary_size_are_named() -> None:
    error = refusal(CreateChatCompletionRequest(end_user_id="x" * 257, messages=[Message()]))

    assert sorted(violation.field for violation in error.violations) == [
        "end_user_id",
        "messages[0]",
        "messages[0].role",
    ]


def test_of_a_large_request_the_first_fault_is_named() -> None:
    # Two bytes each: naming all would take a thousand times the memory of the request, and minutes.
    error = refusal(CreateChatCompletionRequest(model="any", messages=[Message()] * 100_000))

    assert [violation.field for violation in error.violations] == ["messages[0]"]
    assert error.message == "messages[0]: parts must not be empty"
