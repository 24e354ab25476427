"""JSON that a caller nested deeply is sent or refused, wherever a format has to take it apart."""

import orjson
import pytest

from aigateway import assistant, function_tool, json_schema_format, text, types, user
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_target

DEEP = '{"a":' * 500 + "1" + "}" * 500
#: How providers' words on a part begin that formats read again; see what each puts into signatures.
SIGNATURE = b'{"type":"odd","a":' + b"[" * 500 + b"]" * 500 + b"}"

CALL = types.ContentPart(
    tool_call=types.ToolCallPart(tool_call_id="call_1", tool_name="f", arguments=DEEP),
    provider_signature=SIGNATURE,
)
CITED = text("Hi")
CITED.text.citations.add(provider_signature=SIGNATURE)
RESULT = types.ContentPart(
    tool_result=types.ToolResultPart(tool_call_id="call_1", tool_name="f", parts=[text(DEEP)])
)


REQUESTS = {
    "schema of an answer": CreateChatCompletionRequest(
        model="any",
        messages=[user("Hi")],
        response_format=json_schema_format("s", DEEP, description="d"),
    ),
    "schema of a tool": CreateChatCompletionRequest(
        model="any", messages=[user("Hi")], tools=[function_tool("f", DEEP, description="d")]
    ),
    "call and result": CreateChatCompletionRequest(
        model="any",
        messages=[user("Hi"), assistant(CALL), types.Message(role=types.Role.ROLE_TOOL, parts=[RESULT])],
    ),
    "citation": CreateChatCompletionRequest(
        model="any", messages=[user("Hi"), assistant(CITED), user("And?")]
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("provider_type", ["openai", "vllm", "anthropic", "google"])
def test_deep_json_is_sent_or_refused(provider_type: str, name: str) -> None:
    target = make_target(provider_type)

    try:
        body = chat_format(provider_type).render_chat(REQUESTS[name], target, stream=True)
    except GatewayError as error:
        reason = error.reason_name
    else:
        reason = ""
        assert isinstance(orjson.loads(body), dict)
    assert reason in {"", "INVALID_REQUEST", "FEATURE_NOT_SUPPORTED"}
