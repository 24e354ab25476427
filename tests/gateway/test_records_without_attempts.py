"""Calls that reach no provider, counts estimated here and requests refused: all are on record."""

from __future__ import annotations

import pytest

from aigateway import InvalidRequestError, NotFoundError, function_tool, user
from aigateway.v1.chat_service_pb2 import CountTokensRequest
from tests.support.gateway import Gateway
from tests.support.upstream import MODEL


async def test_a_count_is_estimated_and_told_to_be(gateway: Gateway) -> None:
    answer = await gateway.client.chat.count_tokens(MODEL, [user("x" * 400)])
    assert (answer.input_tokens, answer.estimated) == (100, True)
    assert answer.served_by.provider_model == MODEL
    tool = function_tool("weather", {"type": "object"}, description="y" * 39)
    with_tool = await gateway.client.chat.count_tokens(MODEL, [user("x" * 400)], tools=[tool])
    assert with_tool.input_tokens > answer.input_tokens


async def test_a_count_is_on_record_and_costs_nothing(gateway: Gateway) -> None:
    await gateway.client.stubs.chat.CountTokens(
        CountTokensRequest(model=MODEL, messages=[user("hello")]), metadata=gateway.metadata
    )
    rows = gateway.client.usage.list_records("tenants/default", filter='method = "CountTokens"')
    record = await anext(aiter(rows))
    assert not record.HasField("cost")
    assert list(record.attempts) == []


async def test_a_count_for_an_unknown_model_is_refused(gateway: Gateway) -> None:
    with pytest.raises(NotFoundError) as caught:
        await gateway.client.chat.count_tokens("nobody", [user("hello")])
    assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_a_request_that_breaks_a_rule_is_on_record(gateway: Gateway) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await gateway.client.chat.create("", [user("hello")])
    rows = gateway.client.usage.list_records("tenants/default", filter='error_reason = "INVALID_REQUEST"')
    record = await anext(aiter(rows))
    assert record.name == f"tenants/default/usageRecords/{caught.value.request_id}"
    assert list(record.attempts) == []
