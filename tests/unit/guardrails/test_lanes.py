"""Threads that check long texts: turns, limits of time, and threads that are lost."""

import asyncio
import threading
import time

import pytest

from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails.rules import compile_profile
from gateway_server.pipeline.guarding import _Lane, _Lanes
from tests.support.text_models import WordModels


async def test_waiting_for_a_turn_is_not_the_checks_own_time() -> None:
    lane = _Lane("test", most_waiting=10)
    done = await asyncio.gather(*(lane.run(lambda: time.sleep(0.06), limit=0.15) for _ in range(4)))
    assert done == [None] * 4
    lane.close()


async def test_a_thread_that_hangs_is_left_and_the_next_check_has_another() -> None:
    lane, released = _Lane("test", most_waiting=10), threading.Event()
    with pytest.raises(TimeoutError):
        await lane.run(lambda: released.wait(10), limit=0.02)
    assert await lane.run(lambda: "done", limit=5) == "done"
    released.set()
    lane.close()


async def test_when_too_many_wait_the_next_is_told_to_come_again() -> None:
    lane, released = _Lane("test", most_waiting=2), threading.Event()
    waiting = [asyncio.create_task(lane.run(lambda: released.wait(10), limit=5)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(GatewayError) as caught:
        await lane.run(lambda: None, limit=5)
    assert (caught.value.reason_name, caught.value.retry_after) == ("OVERLOADED", 1.0)
    released.set()
    await asyncio.gather(*waiting)
    assert await lane.run(lambda: "done", limit=5) == "done"
    lane.close()


async def test_who_leaves_frees_the_turn() -> None:
    lane, released = _Lane("test", most_waiting=2), threading.Event()
    leaving = asyncio.create_task(lane.run(lambda: released.wait(10), limit=5))
    await asyncio.sleep(0.01)
    leaving.cancel()
    assert await lane.run(lambda: "done", limit=5) == "done"
    released.set()
    lane.close()


def test_many_rules_leave_the_event_loop_with_shorter_texts() -> None:
    rules = compile_profile(
        GuardrailProfile(
            input_rules=[
                GuardrailRule(
                    rule_id=f"r{index}", action=GuardrailAction.GUARDRAIL_ACTION_REDACT, pii=PiiDetector()
                )
                for index in range(1000)
            ]
        ),
        WordModels,
    ).input_rules
    short, long, waiting = (_Lane("test") for _ in range(3))
    lanes = _Lanes(short, long, waiting)
    assert lanes.of(rules[:1], 4_000) is lanes.of(rules[:4], 4_000) is lanes.of(rules, 10) is None
    assert lanes.of(rules[:4], 5_000) is lanes.of(rules[:5], 4_000) is lanes.of(rules, 100) is short
    assert lanes.of(rules[:4], 300_000) is lanes.of(rules, 4_000) is long
    lanes.close()
