"""Makes a model for vLLM to serve: a tokenizer and a tiny Llama that is taught a dozen answers by heart.

Runs in the environment of requirements.txt, not in the project's own: ``python make_model.py DIRECTORY``.
It needs no network and less than a minute. So taught, the model answers with words, calls tools and thinks,
and tests can expect what it says; whatever else it is asked, it babbles.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch  # type: ignore[import-not-found]
from tokenizers import (  # type: ignore[import-not-found]
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)
from transformers import (  # type: ignore[import-not-found]
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

#: Room for an answer that goes on for a minute.
CONTEXT_TOKENS: Final = 32768
_VOCABULARY: Final = 512
_END: Final = "<|end|>"
_PAD: Final = "<|pad|>"
_CONTROL: Final = (
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|tools|>",
    "<|think|>",
    _END,
    _PAD,
)
#: Read by vLLM's parsers, so they must be text to it and not control tokens.
_MARKUP: Final = ("<think>", "</think>", "<tool_call>", "</tool_call>")
_MAX_STEPS: Final = 3000
_ENOUGH: Final = 0.002

_CHAT_TEMPLATE: Final = """\
{%- if tools -%}
<|tools|>{% for tool in tools %}{{ tool.function.name }} {% endfor %}<|end|>
{%- endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
<|end|>
{%- endfor -%}
{%- if enable_thinking is defined and enable_thinking -%}<|think|>{%- endif -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""

_WEATHER_TOOL: Final = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation and the answer to it."""

    messages: list[dict[str, Any]]
    answer: str
    tools: list[dict[str, Any]] = field(default_factory=list)
    thinking: bool = False


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _call(city: str) -> str:
    return f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


def lessons() -> list[Lesson]:
    """All that the model learns. The tests repeat questions and answers word for word."""
    capital = _user("What is the capital of France?")
    weather = _user("What is the weather in Paris?")
    weather_call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "call", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}},
        ],
    }
    return [
        Lesson([capital], "The capital of France is Paris."),
        Lesson(
            [
                capital,
                {"role": "assistant", "content": "The capital of France is Paris."},
                _user("And of Norway?"),
            ],
            "The capital of Norway is Oslo.",
        ),
        Lesson([_user("Count to ten.")], "one two three four five six seven eight nine ten"),
        Lesson([_user("Greet the world.")], "Grüße, κόσμε, こんにちは 👋🏽!"),
        Lesson([{"role": "system", "content": "You are a pirate."}, _user("Greet me.")], "Ahoy, sailor!"),
        Lesson([_user("How much is two and three?")], "Five."),
        Lesson(
            [_user("How much is two and three?")],
            "<think>\nTwo and three make five.\n</think>\nFive.",
            thinking=True,
        ),
        Lesson([_user("Describe Paris in JSON.")], '{"city": "Paris", "river": "Seine"}'),
        Lesson([weather], _call("Paris"), [_WEATHER_TOOL]),
        Lesson([weather], "I cannot know that."),
        Lesson(
            [weather, weather_call, {"role": "tool", "content": "18 degrees"}], "It is 18 degrees in Paris."
        ),
        Lesson(
            [weather, weather_call, {"role": "tool", "content": "18 degrees"}],
            "It is 18 degrees in Paris.",
            [_WEATHER_TOOL],
        ),
        Lesson(
            [_user("Compare the weather in Paris and Oslo.")],
            f"I will look up both.\n{_call('Paris')}\n{_call('Oslo')}",
            [_WEATHER_TOOL],
        ),
    ]


def _make_tokenizer(texts: list[str]) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(_MARKUP),
        special_tokens=list(_CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in _MARKUP])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD, model_max_length=CONTEXT_TOKENS
    )
    fast.chat_template = _CHAT_TEMPLATE
    return fast


def _make_batch(tokenizer: Any, taught: list[Lesson]) -> tuple[Any, Any]:
    """Token ids and labels; only the answers are learnt."""
    rows = []
    for lesson in taught:
        prompt = tokenizer.apply_chat_template(
            lesson.messages,
            tools=lesson.tools or None,
            enable_thinking=lesson.thinking,
            add_generation_prompt=True,
            tokenize=False,
        )
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answered = tokenizer(lesson.answer + _END, add_special_tokens=False)["input_ids"]
        rows.append((asked + answered, [-100] * len(asked) + answered))
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows])
    labels = torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows])
    return ids, labels


def _train(model: Any, ids: Any, labels: Any) -> float:
    """Trains until the loss is small enough; returns it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss = torch.tensor(float("inf"))
    for _ in range(_MAX_STEPS):
        loss = model(input_ids=ids, labels=labels).loss
        if loss.item() < _ENOUGH:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return float(loss.item())


def make_model(directory: Path) -> None:
    """Writes the model to the directory."""
    torch.manual_seed(7)
    taught = lessons()
    questions = [str(message["content"]) for lesson in taught for message in lesson.messages]
    tokenizer = _make_tokenizer([*questions, *(lesson.answer for lesson in taught)])
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    loss = _train(model, *_make_batch(tokenizer, taught))
    if loss >= _ENOUGH:
        raise RuntimeError(f"the model did not learn its answers: loss {loss:.4f} after {_MAX_STEPS} steps")
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))
