"""Whatever a provider sends: a clear error with a reason, a settled row, no leaked connection, and on."""

from __future__ import annotations

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream


async def test_smoke(gateway: Gateway, upstream: Upstream) -> None:
    answer = await gateway.client.chat.create("test-model", "hi", end_user_id="me")
    assert answer.choices[0].message.parts[0].text.text == "Hello there"
    print(await gateway.ledger.wait_one("me"))
