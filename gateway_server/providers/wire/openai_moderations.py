"""The format in which OpenAI, and services that follow it, judge whether texts are harmful."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from gateway_server.errors import GatewayError
from gateway_server.providers.base import ModerationVerdict, Target
from gateway_server.providers.wire import openai_errors
from gateway_server.providers.wire.faults import protocol_error
from gateway_server.providers.wire.json_values import (
    JsonObject,
    MalformedAnswerError,
    as_object,
    get_list,
    get_object,
    parse_object,
)

#: The format's categories, by the gateway's.
_CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = {
    "hate": ("hate", "hate/threatening"),
    "harassment": ("harassment", "harassment/threatening"),
    "sexual": ("sexual", "sexual/minors"),
    "violence": ("violence", "violence/graphic"),
    "self_harm": ("self-harm", "self-harm/intent", "self-harm/instructions"),
    "illicit": ("illicit", "illicit/violent"),
}
_KNOWN: Final = frozenset(name for names in _CATEGORIES.values() for name in names)


class OpenAIModerationFormat:
    """The format; implements ModerationFormat."""

    def render_moderation(self, texts: Sequence[str], target: Target) -> bytes:
        """As in ModerationFormat."""
        return orjson.dumps({"model": target.provider_model, "input": list(texts)})

    def parse_moderation(self, body: bytes, texts: int, target: Target) -> list[ModerationVerdict]:
        """As in ModerationFormat. A result with none of the categories is no verdict."""
        try:
            answer = parse_object(body)
            if answer.get("error") is not None:
                raise openai_errors.parse_error_in_answer(answer["error"], target.provider)
            return _read_results(get_list(answer, "results", "answer"), texts)
        except MalformedAnswerError as error:
            raise protocol_error(target.provider, error.cause) from error

    def parse_error(
        self, status: int, headers: Mapping[str, str], body: bytes, target: Target
    ) -> GatewayError:
        """As in ModerationFormat."""
        return openai_errors.parse_error(status, headers, body, target.provider)


def _read_results(results: list[object], texts: int) -> list[ModerationVerdict]:
    if len(results) != texts:
        raise MalformedAnswerError(f"{len(results)} results for {texts} texts")
    return [_read_result(result, f"results[{index}]") for index, result in enumerate(results)]


def _read_result(value: object, where: str) -> ModerationVerdict:
    result = as_object(value, where)
    flags = _read_known(result, "categories", where)
    scores = _read_known(result, "category_scores", where)
    return ModerationVerdict(
        scores={
            category: max(_read_score(scores.get(name), f"{where}.category_scores") for name in names)
            for category, names in _CATEGORIES.items()
        },
        flagged=frozenset(
            category
            for category, names in _CATEGORIES.items()
            if any(_read_flag(flags.get(name), f"{where}.categories") for name in names)
        ),
    )


def _read_known(result: JsonObject, key: str, where: str) -> JsonObject:
    """The object under a key, which has at least one of the categories."""
    values = get_object(result, key, where)
    if values is None or values.keys().isdisjoint(_KNOWN):
        raise MalformedAnswerError(f"{where}.{key} has none of the categories")
    return values


def _read_score(value: object, where: str) -> float:
    if value is None:
        return 0.0
    if type(value) is float or type(value) is int:
        return min(max(float(value), 0.0), 1.0)
    raise MalformedAnswerError(f"{where} has something that is no number")


def _read_flag(value: object, where: str) -> bool:
    if value is None or type(value) is bool:
        return bool(value)
    raise MalformedAnswerError(f"{where} has something that is neither true nor false")
