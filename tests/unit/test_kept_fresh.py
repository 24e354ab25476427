"""Secrets that expire are fetched before they do, by nobody who waits for them, and by nobody once unused."""

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from gateway_server.providers.kept_fresh import KeptFresh, Lease, SecretUnavailableError, share


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Source:
    """Gives numbered secrets that live for an hour, or fails; counts how often it was asked."""

    def __init__(self, clock: Clock, *, life: float = 3600) -> None:
        self.clock = clock
        self.life = life
        self.count = 0
        self.fault: Exception | None = None

    def fetch(self) -> Lease[str]:
        self.count += 1
        if self.fault is not None:
            raise self.fault
        return Lease(secret=f"secret-{self.count}", expires_at=self.clock.time + self.life)


def kept(source: Source) -> KeptFresh[str]:
    return KeptFresh(source.fetch, clock=source.clock)


def test_it_is_fetched_again_before_its_end_and_not_earlier() -> None:
    clock = Clock()
    source = Source(clock)
    secret = kept(source)

    secret.refresh_if_due()
    assert (secret.get(), source.count) == ("secret-1", 1)

    clock.time += 3600 - 301
    secret.refresh_if_due()
    assert source.count == 1

    clock.time += 1
    secret.refresh_if_due()
    assert (secret.get(), source.count) == ("secret-2", 2)


def test_one_that_lives_shortly_is_fetched_again_at_half_of_its_life() -> None:
    clock = Clock()
    source = Source(clock, life=60)
    secret = kept(source)
    secret.refresh_if_due()

    clock.time += 29
    secret.refresh_if_due()
    assert source.count == 1
    clock.time += 1
    secret.refresh_if_due()
    assert source.count == 2


def test_what_was_fetched_holds_until_its_end_when_the_source_fails() -> None:
    clock = Clock()
    source = Source(clock)
    secret = kept(source)
    secret.refresh_if_due()

    source.fault = SecretUnavailableError("cannot be had: the source is away")
    clock.time += 3400
    secret.refresh_if_due()
    assert secret.get() == "secret-1"

    clock.time += 200
    with pytest.raises(SecretUnavailableError, match="has expired, and the next one cannot be had"):
        secret.get()

    source.fault = None
    secret.refresh_if_due()
    assert secret.get() == "secret-3"


def test_a_source_that_fails_is_asked_less_and_less() -> None:
    clock = Clock()
    source = Source(clock)
    source.fault = SecretUnavailableError("cannot be had")
    secret = kept(source)

    waits = []
    for _ in range(8):
        before = clock.time
        secret.refresh_if_due()
        count = source.count
        while source.count == count:
            clock.time += 1
            secret.refresh_if_due()
        waits.append(clock.time - before)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_no_fault_of_a_source_ends_the_keeping_or_shows_its_words(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(Clock())
    source.fault = ZeroDivisionError("the words hold sk-secret")
    secret = kept(source)

    secret.refresh_if_due()

    with pytest.raises(SecretUnavailableError, match="could not be fetched"):
        secret.get()
    assert "ZeroDivisionError" in caplog.text
    assert "sk-secret" not in caplog.text


def test_without_a_start_nothing_is_fetched() -> None:
    source = Source(Clock())

    with pytest.raises(SecretUnavailableError, match="was not fetched yet"):
        kept(source).get()
    assert source.count == 0


def test_a_thread_fetches_and_ends_when_nobody_holds_the_secret() -> None:
    source = Source(Clock())
    secret = kept(source)

    secret.start(timeout=10)

    assert secret.get() == "secret-1"
    thread = secret._thread
    assert thread is not None
    assert thread is not threading.current_thread()
    gone = weakref.ref(secret)
    del secret
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    assert gone() is None


def test_a_second_start_tries_again_only_after_a_failure() -> None:
    source = Source(Clock())
    source.fault = SecretUnavailableError("cannot be had")
    secret = kept(source)
    secret.start(timeout=10)
    source.fault = None

    secret.start(timeout=10)
    assert (secret.get(), source.count) == ("secret-2", 2)

    secret.start(timeout=10)
    assert source.count == 2


def test_a_start_waits_no_longer_than_it_is_told() -> None:
    released = threading.Event()

    def fetch() -> Lease[str]:
        released.wait(10)
        return Lease(secret="late", expires_at=None)

    secret = KeptFresh(fetch)
    secret.start(timeout=0.01)
    with pytest.raises(SecretUnavailableError):
        secret.get()
    released.set()
    assert secret._tried.wait(10)
    assert secret.get() == "late"


def test_one_source_is_asked_once_for_all_who_hold_its_secret() -> None:
    first, second = Source(Clock()), Source(Clock())
    held = share(("test", "a"), first.fetch)

    assert share(("test", "a"), second.fetch) is held
    assert share(("test", "b"), second.fetch) is not held

    del held
    gc.collect()
    renewed: KeptFresh[str] = share(("test", "a"), second.fetch)
    renewed.refresh_if_due()
    assert (first.count, second.count) == (0, 1)


@pytest.mark.parametrize("show", [repr, str])
def test_no_repr_shows_a_secret(show: Callable[[object], str]) -> None:
    lease = Lease(secret="sk-secret", expires_at=None)

    assert "sk-secret" not in show(lease)
