"""That no look at a long text keeps everybody else from running."""

import threading
import time
from collections.abc import Callable

from gateway_server.guardrails.detectors import Personal
from gateway_server.guardrails.pii import DEFAULT_ENTITY_TYPES, RECOGNIZERS

PERSONAL = Personal(tuple(RECOGNIZERS[kind] for kind in DEFAULT_ENTITY_TYPES), 0.6, frozenset())


def worst_wait(work: Callable[[], object]) -> tuple[float, float]:
    """How long this thread had to wait at a time while another does ``work``, and how long that took."""
    thread = threading.Thread(target=work)
    worst = 0.0
    started_at = before = time.perf_counter()
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        worst, before = max(worst, now - before), now
    return worst, before - started_at


def test_whether_a_long_text_is_worth_a_look_is_told_a_little_at_a_time() -> None:
    text = "in 12345 of 6789 and 12 (34) 5 x " * 150_000
    # By comparison, since the machines of tests are shared.
    waits = [worst_wait(lambda: PERSONAL.may_find(text)) for _ in range(3)]
    assert min(worst / took for worst, took in waits) < 0.5
    assert not PERSONAL.may_find(text)


def test_what_is_worth_a_look_is_seen_wherever_it_stands() -> None:
    number = " hyphen ".join("2191699")
    for place in (0, 4000, 4096 - len(number) - 1, *range(4096 - len(number), 4098), 8190):
        assert PERSONAL.may_find("x" * place + number)
        assert PERSONAL.may_find("x" * place + number + "y" * 9000)
