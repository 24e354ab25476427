"""What keeps a target from being asked, in the words that callers may see; and what is only likely to."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aigateway import function_tool, image_url, json_schema_format, user
from aigateway.v1.chat_service_pb2 import (
    CreateChatCompletionRequest,
    GenerationConfig,
    ReasoningConfig,
    ReasoningEffort,
)
from aigateway.v1.model_pb2 import Model, ModelCapability, Price
from aigateway.v1.routing_pb2 import CandidateExclusion, GatewayOptions
from aigateway.v1.usage_pb2 import Modality
from gateway_server.call import BudgetLimit, Principal
from gateway_server.providers.base import Endpoint, Target
from gateway_server.router.catalog import Candidate
from gateway_server.router.facts import ChatFacts
from gateway_server.router.filters import Exclusion, forbids, is_unlikely

CHAT = ModelCapability.MODEL_CAPABILITY_CHAT
TOOLS = ModelCapability.MODEL_CAPABILITY_TOOLS
ANYBODY = Principal("acme", "k", frozenset())
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
IMAGE = user("What is this?", image_url("https://example.com/a.png"))


def candidate(*, can_chat: bool = True, **fields: Any) -> Candidate:
    model = Model(name="providers/p/models/m", **fields)
    endpoint = cast(Endpoint, SimpleNamespace(chat_format=object() if can_chat else None))
    return Candidate(Target("p", "vllm", "m-large", model), endpoint, ("p/m", "m"))


def facts(*, options: GatewayOptions | None = None, **fields: Any) -> ChatFacts:
    fields = {"messages": [user("hello")], **fields}
    return ChatFacts(CreateChatCompletionRequest(model="m", gateway_options=options, **fields), streams=False)


def kind(name: str, detail: str) -> Exclusion:
    return Exclusion(CandidateExclusion.Value(f"CANDIDATE_EXCLUSION_{name}"), detail)


LACKING = {
    "tools": facts(tools=[function_tool("look_up", SCHEMA)]),
    "json_schema": facts(response_format=json_schema_format("city", SCHEMA)),
    "reasoning": facts(reasoning=ReasoningConfig(effort=ReasoningEffort.REASONING_EFFORT_LOW)),
    "logprobs": facts(generation_config=GenerationConfig(logprobs=True)),
    "multiple_choices": facts(generation_config=GenerationConfig(choice_count=2)),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_target_is_known_to_lack_what_the_request_needs(lacking: str) -> None:
    needs = LACKING[lacking]
    found = forbids(candidate(capabilities=[CHAT]), needs, ANYBODY, route=None)
    assert found == kind("CAPABILITY", lacking)
    able = [CHAT, ModelCapability.Value(f"MODEL_CAPABILITY_{lacking.upper()}")]
    assert forbids(candidate(capabilities=able), needs, ANYBODY, route=None) is None
    assert forbids(candidate(), needs, ANYBODY, route=None) is None, (
        "what is not known is not held against it"
    )


def test_a_target_reads_no_pictures() -> None:
    blind = candidate(input_modalities=[Modality.MODALITY_TEXT])
    assert forbids(blind, facts(messages=[IMAGE]), ANYBODY, route=None) == kind("CAPABILITY", "image input")
    seeing = candidate(input_modalities=[Modality.MODALITY_TEXT, Modality.MODALITY_IMAGE])
    assert forbids(seeing, facts(messages=[IMAGE]), ANYBODY, route=None) is None
    assert forbids(blind, facts(), ANYBODY, route=None) is None


def test_a_provider_has_no_chat_at_all() -> None:
    assert forbids(candidate(can_chat=False), facts(), ANYBODY, route=None) == kind("CAPABILITY", "chat")


@pytest.mark.parametrize(
    ("allowed", "route", "is_left_out"),
    [
        ((), None, False),
        ((("m",), ("p/*",)), None, False),
        ((("m",), ("q/*",)), None, True),
        ((("other",),), None, True),
        ((("quick",),), "quick", False),
        ((("quick",), ("other",)), "quick", True),
    ],
)
def test_both_tenant_and_key_must_allow_it(
    allowed: tuple[tuple[str, ...], ...], route: str | None, is_left_out: bool
) -> None:
    found = forbids(candidate(), facts(), replace(ANYBODY, allowed_models=allowed), route=route)
    expected = kind("NOT_ALLOWED", "not among the allowed models of tenant and key")
    assert found == (expected if is_left_out else None)


@pytest.mark.parametrize(
    ("options", "is_left_out"),
    [
        (GatewayOptions(), False),
        (GatewayOptions(allowed_providers=["providers/p"]), False),
        (GatewayOptions(allowed_providers=["providers/q"]), True),
        (GatewayOptions(excluded_providers=["providers/q"]), False),
        (GatewayOptions(allowed_providers=["providers/p"], excluded_providers=["providers/p"]), True),
    ],
)
def test_the_request_says_which_providers_it_takes(options: GatewayOptions, is_left_out: bool) -> None:
    found = forbids(candidate(), facts(options=options), ANYBODY, route=None)
    assert found == (
        kind("NOT_REQUESTED", "its provider is not one that the request takes") if is_left_out else None
    )


def test_no_price_under_a_budget() -> None:
    strict = BudgetLimit("acme", "", "day", 10**9, "UTC")
    lax = strict._replace(api_key_id="k", allow_unpriced_models=True)
    unpriced, priced = candidate(), candidate(price=Price(input_nanos_per_million=1))
    by_strict, by_lax = replace(ANYBODY, budgets=(lax, strict)), replace(ANYBODY, budgets=(lax,))
    assert forbids(unpriced, facts(), by_strict, route=None) == kind(
        "UNPRICED", "it has no price, and a budget applies"
    )
    assert forbids(priced, facts(), by_strict, route=None) is None
    assert forbids(unpriced, facts(), by_lax, route=None) is None


@pytest.mark.parametrize(
    ("limits", "remaining", "usual", "expected"),
    [
        ({}, 30.0, None, None),
        ({"max_output_tokens": 100, "context_window_tokens": 200}, 30.0, 20.0, None),
        ({"max_output_tokens": 99}, 30.0, None, kind("TOKEN_LIMIT", "it writes at most 99 tokens")),
        (
            {"context_window_tokens": 199},
            30.0,
            None,
            kind("TOKEN_LIMIT", "its context window has 199 tokens, and about 200 are needed"),
        ),
        ({}, 1.9, 4.0, kind("DEADLINE", "it usually takes 4.0 s, and 1.9 s are left")),
        ({}, -0.1, 4.0, kind("DEADLINE", "it usually takes 4.0 s, and 0.0 s are left")),
        ({}, 2.0, 4.0, None),
    ],
)
def test_what_estimates_say(
    limits: dict[str, Any], remaining: float, usual: float | None, expected: Exclusion | None
) -> None:
    """A hundred tokens to read, and as many to write at the most."""
    long = facts(messages=[user("x" * 400)], generation_config=GenerationConfig(max_output_tokens=100))
    assert is_unlikely(candidate(**limits), long, remaining=remaining, usual_time=usual) == expected
