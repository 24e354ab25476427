"""What vLLM refuses becomes an error that says who refused and why, and nothing of what was asked."""

from __future__ import annotations

from typing import Any

import pytest

from aigateway import function_tool, image, json_schema_format, text, user
from aigateway.v1.chat_service_pb2 import ToolChoice, ToolChoiceMode
from tests.vllm.asking import Ask, RefusedError
from tests.vllm.conftest import GHOST

CASES: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "context": ("word " * 40_000, {}, {"provider_code": "context_length_exceeded"}),
    "output limit": ("hello", {"max_output_tokens": 50_000}, {"provider_parameter": "max_tokens"}),
    "unknown model": ("hello", {"model": GHOST}, {"provider_code": "model_not_found"}),
    "greedy choices": ("hello", {"choice_count": 2}, {"provider_code": "BadRequestError"}),
    "schema": (
        "hello",
        {"response_format": json_schema_format("no", {"type": "strange"})},
        {"provider_code": "BadRequestError"},
    ),
    "picture": (
        [user(text("What is this?"), image(b"\x89PNG\r\n\x1a\n", mime_type="image/png"))],
        {},
        {"provider_code": "BadRequestError"},
    ),
    "temperature": (
        "hello",
        {"provider_options": {"vllm": {"temperature": 3}}},
        {"provider_parameter": "temperature"},
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_refusal_names_provider_status_and_cause(ask: Ask, case: str) -> None:
    messages, options, expected = CASES[case]
    with pytest.raises(RefusedError) as refused:
        await ask(messages, **options)
    assert refused.value.reason == "UPSTREAM_REJECTED"
    expected = {"provider": "providers/local"} | expected
    # A schema that cannot be used is found out after a stream has begun with 200.
    if not (case == "schema" and ask.streamed):
        expected["http_status"] = "404" if case == "unknown model" else "400"
    assert expected.items() <= refused.value.metadata.items()
    assert "hello" not in str(refused.value)
    assert "word" not in str(refused.value)


async def test_what_the_format_cannot_say_is_refused_before_it_is_sent(ask: Ask) -> None:
    tools = [function_tool("one", {"type": "object"}), function_tool("two", {"type": "object"})]
    choice = ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED, allowed_tool_names=["one", "two"])
    with pytest.raises(RefusedError, match="FEATURE_NOT_SUPPORTED"):
        await ask("hello", tools=tools, tool_choice=choice)
