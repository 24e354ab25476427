"""The quick look at chat requests calls nothing valid that protovalidate would refuse."""

from __future__ import annotations

import protovalidate
from hypothesis import event, given
from hypothesis import strategies as st

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest, GenerationConfig, Tool
from aigateway.v1.content_pb2 import (
    ContentPart,
    ImagePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from gateway_server.rpc.plain_requests import is_plainly_valid

TEXTS = st.sampled_from(["", "a", "é" * 256, "x" * 257, "x" * 65])
LEAVES = st.one_of(
    st.builds(lambda text: ContentPart(text=TextPart(text=text)), TEXTS),
    st.builds(lambda text: ContentPart(reasoning=ReasoningPart(text=text)), TEXTS),
    st.builds(lambda text: ContentPart(tool_call=ToolCallPart(tool_call_id=text)), TEXTS),
    st.just(ContentPart()),
    st.just(ContentPart(image=ImagePart())),
)
PARTS = st.recursive(
    LEAVES,
    lambda parts: st.builds(
        lambda call, inner: ContentPart(tool_result=ToolResultPart(tool_call_id=call, parts=inner)),
        TEXTS,
        st.lists(parts, max_size=2),
    ),
    max_leaves=4,
)
MESSAGES = st.builds(
    lambda role, author, parts: Message(role=role, author=author, parts=parts),
    st.integers(0, 7),
    st.sampled_from(["", "", "x" * 65]),
    st.lists(PARTS, max_size=3),
)
CONFIGS = st.none() | st.builds(
    lambda fields: GenerationConfig(**fields),
    st.fixed_dictionaries(
        {},
        optional={
            "max_output_tokens": st.integers(-1, 2),
            "temperature": st.sampled_from([-0.1, 0.0, 2.0, 2.1, float("nan"), float("inf")]),
            "top_p": st.sampled_from([-0.1, 0.0, 1.0, 1.1, float("nan")]),
            "top_k": st.integers(-1, 2),
            "seed": st.integers(-5, 5),
        },
    ),
)
REQUESTS = st.builds(
    lambda model, messages, config, user, tools: CreateChatCompletionRequest(
        model=model, messages=messages, generation_config=config, end_user_id=user, tools=tools
    ),
    TEXTS,
    st.lists(MESSAGES, max_size=3),
    CONFIGS,
    TEXTS,
    st.lists(st.just(Tool()), max_size=1),
)


@given(REQUESTS)
def test_what_is_plainly_valid_breaks_no_rule(request: CreateChatCompletionRequest) -> None:
    plain = is_plainly_valid(request)
    event(f"plainly valid: {plain}")
    if plain:
        assert protovalidate.collect_violations(request) == []


def test_an_ordinary_request_is_plainly_valid() -> None:
    request = CreateChatCompletionRequest(
        model="gpt-4o",
        messages=[Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text="hello"))])],
        generation_config=GenerationConfig(max_output_tokens=100, temperature=0.2),
    )
    assert is_plainly_valid(request)
