"""What is fuzzed: a law, how to change an input so that it stays interesting, and inputs to begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from tests.fuzz import properties, seeds
from tests.fuzz.json_mutation import mutate_bytes, mutate_json, mutate_stream
from tests.fuzz.message_mutation import mutate_message


@dataclass(frozen=True)
class Target:
    """One law and its inputs."""

    name: str
    check: Callable[[bytes], None]
    mutate: Callable[[bytes, Random], bytes]
    seeds: Callable[[], list[bytes]]


def _mutate_error_answer(data: bytes, random: Random) -> bytes:
    head, _, body = data.partition(b"\n\n")
    if random.random() < 0.6:
        return head + b"\n\n" + mutate_json(body, random)
    lines = head.split(b"\n")
    place = random.randrange(len(lines))
    name, colon, value = lines[place].partition(b": ")
    values = (
        *(
            b"0",
            b"-1",
            b"1e300",
            b"1e19",
            b"nan",
            b"inf",
            b"999999999999",
            b"1_0",
            b"6m0s",
            b"1h1h",
            b"99999999999999h",
        ),
        *(
            b"Wed, 21 Oct 2026 07:28:00 GMT",
            b"Wed, 21 Oct 99999 07:28:00 GMT",
            b"Mon, 1 Jan 1 0:0:0 +9999999",
        ),
        *(b"\xb2", b"", b"120ms", mutate_bytes(value, random)),
    )
    changed = (
        name + colon + random.choice(values)
        if colon
        else random.choice((b"400", b"404", b"429", b"529", b"300"))
    )
    extra = random.choice(
        (b"", b"\nretry-after: 1", b"\ndate: Wed, 21 Oct 2026 07:27:00 GMT", b"\nretry-after-ms: 9")
    )
    lines[place] = changed.replace(b"\n", b"")
    return b"\n".join(lines) + extra + b"\n\n" + body


def _mutate_query(data: bytes, random: Random) -> bytes:
    words = data.split(b" ")
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    extra = random.choice(
        (b"AND", b"=", b"!=", b"model", b"labels.a", b"status_code", b'"a"', b"'", b"5", b"\\")
    )
    place = random.randrange(len(words))
    return b" ".join(random.choice(([*words[:place], extra, *words[place:]], words[::-1], words * 2)))


def _mutate_request(data: bytes, random: Random) -> bytes:
    if not data or random.random() < 0.02:
        return bytes([random.randrange(len(properties.METHODS))]) + data[1:]
    method = properties.METHODS[data[0] % len(properties.METHODS)]
    return data[:1] + mutate_message(data[1:], method.request_type, random)


TARGETS: Final = {
    target.name: target
    for target in (
        Target(
            "openai_answer", partial(properties.check_chat_answer, "openai"), mutate_json, seeds.chat_answers
        ),
        Target(
            "openai_stream",
            partial(properties.check_chat_stream, "openai"),
            mutate_stream,
            seeds.chat_streams,
        ),
        Target(
            "openai_error",
            partial(properties.check_error_answer, "openai"),
            _mutate_error_answer,
            seeds.error_answers,
        ),
        Target(
            "anthropic_answer",
            partial(properties.check_chat_answer, "anthropic"),
            mutate_json,
            seeds.anthropic_answers,
        ),
        Target(
            "anthropic_stream",
            partial(properties.check_chat_stream, "anthropic"),
            mutate_stream,
            seeds.anthropic_streams,
        ),
        Target(
            "anthropic_error",
            partial(properties.check_error_answer, "anthropic"),
            _mutate_error_answer,
            seeds.anthropic_errors,
        ),
        Target(
            "google_answer",
            partial(properties.check_chat_answer, "google"),
            mutate_json,
            seeds.google_answers,
        ),
        Target(
            "google_stream",
            partial(properties.check_chat_stream, "google"),
            mutate_stream,
            seeds.google_streams,
        ),
        Target(
            "google_error",
            partial(properties.check_error_answer, "google"),
            _mutate_error_answer,
            seeds.google_errors,
        ),
        Target("response", properties.check_response, mutate_bytes, seeds.responses),
        Target("sse", properties.check_sse, mutate_bytes, seeds.sse_streams),
        Target("embeddings", properties.check_embeddings, mutate_json, seeds.embeddings),
        Target("fold", properties.check_fold, mutate_bytes, seeds.event_streams),
        Target("query", properties.check_query, _mutate_query, seeds.queries),
        Target("request", properties.check_request, _mutate_request, seeds.requests),
    )
}
