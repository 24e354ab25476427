"""Verdicts on texts in OpenAI's format."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway_server.errors import GatewayError
from gateway_server.guardrails.text.models import CATEGORIES
from gateway_server.providers.base import ModerationEndpoint, ModerationVerdict
from gateway_server.providers.registry import provider_types
from gateway_server.providers.wire.openai_moderations import OpenAIModerationFormat
from tests.support.wire import make_endpoint, make_target


def result(scores: dict[str, Any], flags: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"flagged": False, "categories": {"hate": False, **(flags or {})}, "category_scores": scores}


def parse(answer: object, texts: int = 1) -> list[ModerationVerdict]:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return OpenAIModerationFormat().parse_moderation(body, texts, make_target())


def test_a_request() -> None:
    body = OpenAIModerationFormat().render_moderation(["one", "two"], make_target())
    assert orjson.loads(body) == {"model": "gpt-test", "input": ["one", "two"]}


def test_only_two_types_of_providers_judge() -> None:
    endpoints = {name: make_endpoint(name) for name in provider_types()}
    judging = {
        name
        for name, endpoint in endpoints.items()
        if isinstance(endpoint, ModerationEndpoint) and endpoint.moderation_format is not None
    }
    assert judging == {"openai", "openai_compatible"}


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("hate", "hate"),
        ("hate/threatening", "hate"),
        ("harassment", "harassment"),
        ("harassment/threatening", "harassment"),
        ("sexual", "sexual"),
        ("sexual/minors", "sexual"),
        ("violence", "violence"),
        ("violence/graphic", "violence"),
        ("self-harm", "self_harm"),
        ("self-harm/intent", "self_harm"),
        ("self-harm/instructions", "self_harm"),
        ("illicit", "illicit"),
        ("illicit/violent", "illicit"),
    ],
)
def test_each_category_counts_for_one_of_ours(name: str, category: str) -> None:
    [verdict] = parse({"results": [result({name: 0.7}, {name: True})]})
    assert category in CATEGORIES
    assert verdict.scores == {category: 0.7}
    assert verdict.flags == {"hate": category == "hate", category: True}


def test_the_highest_counts_and_what_is_not_known_is_left_out() -> None:
    scores = {
        "violence": 0.2,
        "violence/graphic": 0.4,
        "spam": 1.0,
        "illicit": None,
        "hate": 1.2,
        "sexual": 1,
    }
    one, other = parse({"results": [result(scores, {"spam": True}), result({"hate": -0.1})]}, texts=2)
    assert one.scores == {"violence": 0.4, "hate": 1.0, "sexual": 1.0}
    assert one.flags == other.flags == {"hate": False}
    assert other.scores == {"hate": 0.0}


@pytest.mark.parametrize(
    ("flagged", "flags", "is_flagged"),
    [
        (False, {"spam": True}, False),
        (True, {"spam": False}, True),
        (None, {"spam": True}, True),
        (None, {"spam": 1, "violence": None}, False),
        (None, {"violence": True}, True),
    ],
)
def test_that_something_is_flagged_is_told_whatever_it_is(
    flagged: bool | None, flags: dict[str, Any], is_flagged: bool
) -> None:
    [verdict] = parse({"results": [{**result({"hate": 0}, flags), "flagged": flagged}]})
    assert verdict.is_flagged == is_flagged


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", "the body is empty"),
        (b"[]", "the body is not a JSON object"),
        ({}, "0 results for 1 texts"),
        ({"results": {}}, "answer.results is not a list"),
        ({"results": [result({"hate": 0})] * 2}, "2 results for 1 texts"),
        ({"results": ["fine"]}, "results[0] is not an object"),
        ({"results": [{"categories": {"hate": False}}]}, "results[0].category_scores has none of"),
        ({"results": [{"category_scores": {"hate": 0}}]}, "results[0].categories has none of"),
        ({"results": [result({"spam": 1})]}, "results[0].category_scores has none of the categories"),
        ({"results": [result({"hate": None})]}, "results[0].category_scores has none of the categories"),
        ({"results": [result({"hate": 0}, {"hate": None})]}, "results[0].categories has none of"),
        ({"results": [{**result({"hate": 0}), "flagged": "no"}]}, "results[0].flagged has something that is"),
        ({"results": [result({"hate": "0"})]}, "results[0].category_scores has something that is no number"),
        ({"results": [result({"hate": True})]}, "results[0].category_scores has something that is no"),
        ({"results": [result({"hate": 0}, {"hate": "no"})]}, "results[0].categories has something that is"),
    ],
)
def test_what_is_no_verdict_is_an_error(answer: object, cause: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse(answer)
    assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"
    assert cause in caught.value.metadata["cause"]


def test_an_error_within_an_answer_is_one() -> None:
    with pytest.raises(GatewayError) as caught:
        parse({"error": {"code": "rate_limit_exceeded"}, "results": [result({"hate": 0})]})
    assert caught.value.reason_name == "UPSTREAM_RATE_LIMITED"
