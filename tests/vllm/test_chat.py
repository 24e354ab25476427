"""Answers of a real vLLM, whole and streamed, through the wire format alone and through the gateway."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from aigateway import assistant, developer, function_tool, json_schema_format, system, user
from aigateway.v1.chat_service_pb2 import ChatCompletion, Choice, FinishReason
from aigateway.v1.content_pb2 import Role
from aigateway.v1.usage_pb2 import UsageState
from tests.vllm.asking import Ask
from tests.vllm.server import MODEL, VllmServer

CAPITAL = "What is the capital of France?"
CAPITAL_ANSWER = "The capital of France is Paris."
COUNT = "Count to ten."
COUNT_ANSWER = "one two three four five six seven eight nine ten"
SUM = "How much is two and three?"


def only_choice(completion: ChatCompletion) -> Choice:
    [choice] = completion.choices
    return choice


def parts_of(choice: Choice) -> list[tuple[str, str]]:
    """Kind and words of each part."""
    return [
        (kind, getattr(part, kind).text)
        for part in choice.message.parts
        if (kind := str(part.WhichOneof("kind")))
    ]


async def test_an_answer_has_words_finish_id_and_model(ask: Ask) -> None:
    completion = await ask(CAPITAL)
    choice = only_choice(completion)
    assert parts_of(choice) == [("text", CAPITAL_ANSWER)]
    assert choice.message.role == Role.ROLE_ASSISTANT
    assert choice.finish.reason == FinishReason.FINISH_REASON_STOP
    assert choice.finish.provider_reason == "stop"
    assert choice.finish.stop_sequence == ""
    assert completion.served_by.provider_model == MODEL
    assert completion.served_by.provider_response_id.startswith("chatcmpl-")


async def test_usage_is_what_the_servers_own_tokenizer_counts(ask: Ask, vllm: VllmServer) -> None:
    usage = (await ask(CAPITAL)).usage
    asked = await vllm.count_tokens(messages=[{"role": "user", "content": CAPITAL}])
    answered = await vllm.count_tokens(prompt=CAPITAL_ANSWER) + 1  # the token that ends the answer
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (
        asked,
        answered,
        asked + answered,
    )
    assert usage.state == UsageState.USAGE_STATE_PROVIDER_REPORTED
    assert usage.cache_read_input_tokens == 0
    assert usage.reasoning_output_tokens == 0


async def test_characters_of_several_tokens_arrive_whole(ask: Ask) -> None:
    assert parts_of(only_choice(await ask("Greet the world."))) == [
        ("text", "Grüße, κόσμε, こんにちは 👋🏽!")
    ]


@pytest.mark.parametrize("instructions", [system, developer])
async def test_instructions_reach_the_model_whoever_gave_them(ask: Ask, instructions: Any) -> None:
    completion = await ask([instructions("You are a pirate."), user("Greet me.")])
    assert parts_of(only_choice(completion)) == [("text", "Ahoy, sailor!")]


async def test_earlier_turns_reach_the_model(ask: Ask) -> None:
    completion = await ask([user(CAPITAL), assistant(CAPITAL_ANSWER), user("And of Norway?")])
    assert parts_of(only_choice(completion)) == [("text", "The capital of Norway is Oslo.")]


async def test_a_stop_sequence_ends_the_answer_and_is_named(ask: Ask) -> None:
    choice = only_choice(await ask(COUNT, stop_sequences=["never", "five"]))
    assert parts_of(choice) == [("text", "one two three four ")]
    assert choice.finish.reason == FinishReason.FINISH_REASON_STOP_SEQUENCE
    assert choice.finish.provider_reason == "stop"
    assert choice.finish.stop_sequence == "five"


async def test_the_output_limit_ends_the_answer(ask: Ask) -> None:
    completion = await ask(COUNT, max_output_tokens=3)
    choice = only_choice(completion)
    assert parts_of(choice) == [("text", "one two three")]
    assert choice.finish.reason == FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS
    assert choice.finish.provider_reason == "length"
    assert completion.usage.output_tokens == 3


async def test_several_answers_come_with_their_log_probabilities(ask: Ask) -> None:
    # vLLM refuses several answers without randomness; a single candidate leaves none.
    completion = await ask(
        CAPITAL, choice_count=2, temperature=0.5, top_k=1, max_output_tokens=3, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage.output_tokens == 6
    for choice in completion.choices:
        assert parts_of(choice) == [("text", "The capital of")]
        assert choice.finish.reason == FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS
        assert [token.token for token in choice.logprobs] == ["The", " capital", " of"]
        assert [token.token_bytes for token in choice.logprobs] == [b"The", b" capital", b" of"]
        for token in choice.logprobs:
            likeliest, second = token.top_logprobs
            assert (likeliest.token, likeliest.logprob) == (token.token, token.logprob)
            assert second.token != token.token
            assert 0.9 < math.exp(token.logprob) < 1
            assert math.exp(second.logprob) < 0.1


async def test_a_thought_that_is_asked_for_comes_as_a_part_of_its_own(ask: Ask, vllm: VllmServer) -> None:
    completion = await ask(SUM, reasoning="low")
    choice = only_choice(completion)
    assert parts_of(choice) == [("reasoning", "\nTwo and three make five.\n"), ("text", "\nFive.")]
    assert choice.finish.reason == FinishReason.FINISH_REASON_STOP
    thought = await vllm.count_tokens(prompt="\nTwo and three make five.\n")
    assert completion.usage.reasoning_output_tokens == thought
    assert completion.usage.output_tokens > thought


@pytest.mark.parametrize("reasoning", ["none", None])
async def test_without_a_thought_there_is_only_text(ask: Ask, reasoning: str | None) -> None:
    completion = await ask(SUM, reasoning=reasoning)
    assert parts_of(only_choice(completion)) == [("text", "Five.")]
    assert completion.usage.reasoning_output_tokens == 0


SCHEMA = {
    "type": "object",
    "properties": {"river": {"type": "string", "enum": ["Rhine", "Danube"]}, "known": {"type": "boolean"}},
    "required": ["river", "known"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("question", ["Describe Paris in JSON.", CAPITAL])
async def test_a_schema_holds_the_answer_against_what_the_model_would_say(ask: Ask, question: str) -> None:
    choice = only_choice(await ask(question, response_format=json_schema_format("river", SCHEMA)))
    [(kind, text)] = parts_of(choice)
    assert kind == "text"
    answer = json.loads(text)
    assert answer["river"] in {"Rhine", "Danube"}
    assert answer["known"] in {True, False}
    assert answer.keys() == {"river", "known"}
    assert choice.finish.reason == FinishReason.FINISH_REASON_STOP


async def test_a_schema_holds_the_answer_that_follows_a_thought(ask: Ask) -> None:
    choice = only_choice(await ask(SUM, reasoning="low", response_format=json_schema_format("river", SCHEMA)))
    [thought, (kind, text)] = parts_of(choice)
    assert thought == ("reasoning", "\nTwo and three make five.\n")
    assert kind == "text"
    assert json.loads(text).keys() == {"river", "known"}


async def test_a_seed_makes_random_answers_repeatable(ask: Ask) -> None:
    async def babble(seed: int) -> str:
        completion = await ask("Say something new.", temperature=2, seed=seed, max_output_tokens=20)
        return "".join(text for _, text in parts_of(only_choice(completion)))

    first, again, other = await babble(1), await babble(1), await babble(2)
    assert first == again != other


async def test_options_for_vllm_reach_it(ask: Ask) -> None:
    """Options that nobody but vLLM has: the model would stop after ten words."""
    completion = await ask(COUNT, max_output_tokens=40, provider_options={"vllm": {"ignore_eos": True}})
    assert completion.usage.output_tokens == 40
    assert parts_of(only_choice(completion))[0][1].startswith(COUNT_ANSWER)


async def test_answers_at_the_same_time_do_not_mix(ask: Ask) -> None:
    questions = {CAPITAL: CAPITAL_ANSWER, COUNT: COUNT_ANSWER, SUM: "Five."} | {
        "What is the weather in Paris?": "I cannot know that."
    }
    answers = await asyncio.gather(*(ask(question) for question in [*questions] * 4))
    assert [parts_of(only_choice(answer))[0][1] for answer in answers] == [*questions.values()] * 4


async def test_a_tool_that_is_not_called_changes_nothing(ask: Ask) -> None:
    completion = await ask(
        "What is the weather in Paris?",
        tools=[function_tool("get_weather", {"type": "object"})],
        tool_choice="none",
    )
    # The server leaves the tools in the prompt, so this model writes its markup, and as text.
    assert parts_of(only_choice(completion)) == [
        ("text", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>')
    ]
