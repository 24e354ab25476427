"""A provider's moderation endpoint that judges by words, so that it is known what it says."""

from __future__ import annotations

from typing import Any

from tests.support.upstream import Exchange, Script, send_json

KEY = "sk-moderation-0123456789"


def verdict(text: str) -> dict[str, Any]:
    """A result: VIOLENCE scores 0.9 and is flagged, MILD scores 0.3 and is not."""
    score = 0.9 if "VIOLENCE" in text else 0.3 if "MILD" in text else 0.01
    flagged = score > 0.5
    return {
        "flagged": flagged,
        "categories": {"violence": flagged, "violence/graphic": False, "illicit": None, "hate": False},
        "category_scores": {"violence": score, "violence/graphic": 0.001, "hate": 0.002},
        "category_applied_input_types": {"violence": ["text"]},
    }


async def judge(exchange: Exchange) -> None:
    """Answers a request for verdicts."""
    assert exchange.head.startswith(b"POST /v1/moderations "), exchange.head
    results = [verdict(text) for text in exchange.json["input"]]
    await send_json(exchange, {"id": "modr-1", "model": exchange.json["model"], "results": results})


def answering(value: object, *, status: int = 200) -> Script:
    """Answers every request with the same."""

    async def script(exchange: Exchange) -> None:
        await send_json(exchange, value, status=status)

    return script
