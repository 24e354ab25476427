"""The format in which OpenAI, and services that follow it, judge whether texts are harmful."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

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

T = TypeVar("T")


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
    flags = _read_judged(result, "categories", where, _read_flag)
    scores = _read_judged(result, "category_scores", where, _read_score)
    is_flagged = result.get("flagged")
    if is_flagged is None:
        is_flagged = any(value is True for value in as_object(result["categories"], where).values())
    return ModerationVerdict(
        scores={category: max(values) for category, values in scores.items()},
        flags={category: any(values) for category, values in flags.items()},
        is_flagged=_read_flag(is_flagged, f"{where}.flagged"),
    )


def _read_judged(
    result: JsonObject, key: str, where: str, read: Callable[[object, str], T]
) -> dict[str, list[T]]:
    """What the object under a key has for those categories that were judged, one at least."""
    values = get_object(result, key, where) or {}
    judged = {
        category: [read(values[name], f"{where}.{key}") for name in names if values.get(name) is not None]
        for category, names in _CATEGORIES.items()
    }
    if not any(judged.values()):
        raise MalformedAnswerError(f"{where}.{key} has none of the categories")
    return {category: found for category, found in judged.items() if found}


def _read_score(value: object, where: str) -> float:
    if type(value) is float or type(value) is int:
        return min(max(float(value), 0.0), 1.0)
    raise MalformedAnswerError(f"{where} has something that is no number")


def _read_flag(value: object, where: str) -> bool:
    if type(value) is bool:
        return value
    raise MalformedAnswerError(f"{where} has something that is neither true nor false")
