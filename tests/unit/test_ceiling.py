"""What an attempt can use and cost is never more than what is held for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest, FunctionTool, GenerationConfig, Tool
from aigateway.v1.content_pb2 import (
    AudioPart,
    ContentPart,
    DocumentPart,
    ImagePart,
    MediaSource,
    Message,
    TextPart,
    ToolResultPart,
)
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput, TokenIds
from aigateway.v1.model_pb2 import LongContextPrice, Model, Price
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.usage.ceiling import (
    TokenCeiling,
    chat_ceiling,
    embeddings_ceiling,
    least_nanos,
    limit_output,
    most_nanos,
)
from gateway_server.usage.cost import price_usage

RATES = st.integers(0, 10**12)
PRICES = st.builds(
    Price,
    input_nanos_per_million=RATES,
    output_nanos_per_million=RATES,
    cache_read_nanos_per_million=st.one_of(st.none(), RATES),
    cache_write_nanos_per_million=st.one_of(st.none(), RATES),
    cache_write_long_nanos_per_million=st.one_of(st.none(), RATES),
    long_context_prices=st.lists(
        st.builds(
            LongContextPrice,
            above_input_tokens=st.integers(1, 1000),
            input_nanos_per_million=RATES,
            output_nanos_per_million=RATES,
        ),
        max_size=2,
    ),
)


@given(PRICES, st.integers(0, 2000), st.integers(0, 500), st.integers(1, 3), st.data())
def test_no_usage_within_a_ceiling_costs_more(
    price: Price, input_tokens: int, output_tokens: int, choices: int, data: st.DataObject
) -> None:
    ceiling = TokenCeiling(input_tokens, output_tokens, choices=choices)
    read = data.draw(st.integers(0, input_tokens))
    cached = data.draw(st.integers(0, read))
    written = data.draw(st.integers(0, read - cached))
    usage = TokenUsage(
        input_tokens=read,
        cache_read_input_tokens=cached,
        cache_write_input_tokens=written,
        cache_write_long_input_tokens=data.draw(st.integers(0, written)),
        output_tokens=data.draw(st.integers(0, output_tokens * choices)),
        state=UsageState.USAGE_STATE_PROVIDER_REPORTED,
    )
    assert price_usage(usage, price).total_nanos <= most_nanos(ceiling, price)


def test_a_ceiling_fits_where_costs_do_whatever_the_price() -> None:
    price = Price(input_nanos_per_million=2**63 - 1, output_nanos_per_million=2**63 - 1)
    assert most_nanos(TokenCeiling(10**7, output_tokens=10**7), price) == 2**63 - 1


@given(PRICES, st.integers(0, 2000), st.integers(1, 500), st.integers(0, 10**9))
def test_output_is_limited_to_as_much_as_is_paid_for(
    price: Price, input_tokens: int, output_tokens: int, nanos: int
) -> None:
    ceiling = TokenCeiling(input_tokens, output_tokens)
    limited = limit_output(ceiling, price, nanos)
    if limited is None:
        assert least_nanos(ceiling, price) > nanos
        return
    assert most_nanos(limited, price) <= nanos
    if limited.output_tokens < output_tokens:
        one_more = TokenCeiling(input_tokens, limited.output_tokens + 1)
        assert most_nanos(one_more, price) > nanos
        assert not limited.is_known_upstream  # the provider has to be told


@given(st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_a_text_has_no_more_tokens_than_bytes(texts: list[str]) -> None:
    request = CreateChatCompletionRequest(
        messages=[Message(parts=[ContentPart(text=TextPart(text=text))]) for text in texts]
    )
    assert chat_ceiling(request, Model()).input_tokens >= sum(len(text.encode()) for text in texts)


INLINE = MediaSource(inline_data=b"x" * 100, mime_type="image/png")


@pytest.mark.parametrize(
    ("part", "least"),
    [
        (ContentPart(image=ImagePart(source=INLINE)), 48_169),
        (ContentPart(audio=AudioPart(source=INLINE)), 1_000_000),
        (ContentPart(document=DocumentPart(source=INLINE)), 1_000_000),
        (ContentPart(document=DocumentPart(source=MediaSource(uri="https://a.b/c.pdf"))), 1_000_000),
        (ContentPart(document=DocumentPart(source=MediaSource(inline_text="x" * 500))), 500),
        (
            ContentPart(tool_result=ToolResultPart(parts=[ContentPart(image=ImagePart(source=INLINE))])),
            48_169,
        ),
    ],
)
def test_what_is_no_text_counts_by_its_kind_and_never_more_than_a_window(
    part: ContentPart, least: int
) -> None:
    request = CreateChatCompletionRequest(messages=[Message(parts=[part])])
    assert chat_ceiling(request, Model()).input_tokens >= least
    assert chat_ceiling(request, Model(context_window_tokens=8000)).input_tokens <= 8000


def test_tools_count_with_their_schemas() -> None:
    schema = '{"type": "object", "properties": {"a": {"type": "string"}}}' * 10
    tool = Tool(function=FunctionTool(parameters_json_schema=schema))
    with_tool = chat_ceiling(CreateChatCompletionRequest(tools=[tool]), Model()).input_tokens
    assert with_tool >= chat_ceiling(CreateChatCompletionRequest(), Model()).input_tokens + len(schema)


@pytest.mark.parametrize(
    ("asked", "model", "output", "known"),
    [
        (100, Model(), 100, True),
        (100, Model(max_output_tokens=50), 50, True),
        (0, Model(max_output_tokens=50), 50, True),
        (0, Model(), 16_384, False),
        (0, Model(context_window_tokens=4_000), 4_000, False),
    ],
)
def test_the_output_has_a_limit_that_somebody_knows(
    asked: int, model: Model, output: int, known: bool
) -> None:
    config = GenerationConfig(max_output_tokens=asked) if asked else GenerationConfig()
    ceiling = chat_ceiling(CreateChatCompletionRequest(generation_config=config), model)
    assert (ceiling.output_tokens, ceiling.is_known_upstream) == (output, known)


def test_each_answer_of_several_counts() -> None:
    config = GenerationConfig(max_output_tokens=10, choice_count=3)
    ceiling = chat_ceiling(CreateChatCompletionRequest(generation_config=config), Model())
    price = Price(output_nanos_per_million=1_000_000)
    assert most_nanos(ceiling, price) >= 30


def test_embeddings_have_input_alone() -> None:
    request = CreateEmbeddingsRequest(
        inputs=[EmbeddingInput(text="äöü"), EmbeddingInput(token_ids=TokenIds(values=[1, 2, 3]))]
    )
    ceiling = embeddings_ceiling(request, Model())
    assert ceiling.output_tokens == 0
    assert ceiling.input_tokens >= 9
