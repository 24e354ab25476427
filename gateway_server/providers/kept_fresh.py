"""Secrets that expire: fetched again in a thread of their own before they do, so that no call waits."""

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gateway_server.clock import Clock, SystemClock

_T = TypeVar("_T")

_log: Final = logging.getLogger(__name__)

#: How long before its end a secret is fetched again, in seconds; a short-lived one at half of its life.
_MARGIN_SECONDS: Final = 300.0
#: The clock is looked at this often, in seconds: one that was set, or a machine that slept, is then noticed.
_LOOK_SECONDS: Final = 30.0
_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 60.0


class SecretUnavailableError(Exception):
    """A secret could not be fetched. The cause is safe to show: it holds nothing of any secret."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Generic[_T]):
    """A secret, and how long it holds: times are seconds since the epoch, None where there is no end."""

    secret: _T = field(repr=False)
    expires_at: float | None
    #: When to fetch again, if that is not decided by its end.
    refresh_at: float | None = None


class KeptFresh(Generic[_T]):
    """One secret. A daemon thread keeps it fresh from ``start`` on, as long as somebody holds this object.

    ``fetch`` may block. It raises SecretUnavailableError when there is nothing to be had; what was fetched
    before then holds until its own end.
    """

    def __init__(self, fetch: Callable[[], Lease[_T]], *, clock: Clock | None = None) -> None:
        self._fetch = fetch
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._tried = threading.Event()
        self._lease: Lease[_T] | None = None
        self._cause = "was not fetched yet"
        self._retry_seconds = 0.0
        self._due = 0.0
        weakref.finalize(self, self._wake.set)

    def start(self, *, timeout: float) -> None:
        """Begins to keep the secret and waits until it was tried for, at most so many seconds.

        When it is kept already it is tried for again if that failed the last time, or costs nothing.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_keep, args=(weakref.ref(self), self._wake), name="secrets", daemon=True
                )
                self._thread.start()
            elif self._lease is None or self._retry_seconds or self._lease.refresh_at is not None:
                self._tried.clear()
                self._due = 0.0
                self._wake.set()
        self._tried.wait(timeout)

    def get(self) -> _T:
        """The secret, at once. Raises SecretUnavailableError when there is none that holds."""
        lease = self._lease
        if lease is None:
            raise SecretUnavailableError(self._cause)
        if lease.expires_at is not None and lease.expires_at <= self._clock.now():
            raise SecretUnavailableError(f"has expired, and the next one {self._cause}")
        return lease.secret

    def refresh_if_due(self) -> float:
        """Fetches the secret when it is time to; gives the seconds until that should be looked at again."""
        if self._clock.now() >= self._due:
            wait = self._refresh()
            with self._lock:
                self._due = self._clock.now() + wait
                self._tried.set()
        return min(max(self._due - self._clock.now(), 0.0), _LOOK_SECONDS)

    def _refresh(self) -> float:
        """Fetches the secret; gives the seconds until that should be done again."""
        try:
            lease = self._fetch()
        except SecretUnavailableError as error:
            return self._fail(error.cause)
        except Exception as error:  # noqa: BLE001 -- the thread outlives whatever a fetch may raise
            # Its words might hold something of the secret.
            _log.error("a secret could not be fetched: %s", type(error).__name__)
            return self._fail("could not be fetched")
        self._lease = lease
        self._cause = "was not fetched yet"
        self._retry_seconds = 0.0
        return self._until_due(lease)

    def _fail(self, cause: str) -> float:
        self._cause = cause
        self._retry_seconds = min(max(self._retry_seconds * 2, _FIRST_RETRY_SECONDS), _LAST_RETRY_SECONDS)
        return self._retry_seconds

    def _until_due(self, lease: Lease[_T]) -> float:
        now = self._clock.now()
        dues = [] if lease.refresh_at is None else [lease.refresh_at]
        if lease.expires_at is not None:
            dues.append(lease.expires_at - min(_MARGIN_SECONDS, (lease.expires_at - now) / 2))
        # A secret that is already at its end is fetched again soon, but not in a tight loop.
        return max(min(dues, default=now + _LAST_RETRY_SECONDS) - now, _FIRST_RETRY_SECONDS)


#: Those that somebody holds: endpoints that are built anew after a change go on with the secrets they had.
_shared: Final[weakref.WeakValueDictionary[tuple[str, ...], KeptFresh[Any]]] = weakref.WeakValueDictionary()
_sharing: Final = threading.Lock()


def share(source: tuple[str, ...], fetch: Callable[[], Lease[_T]]) -> KeptFresh[_T]:
    """The one secret from a source: the one that is held already, or a new one that ``fetch`` gets.

    ``source`` begins with the kind of secret; sources of one kind give secrets of one type.
    """
    with _sharing:
        kept = _shared.get(source)
        if kept is None:
            kept = _shared[source] = KeptFresh(fetch)
        return kept


def _keep(held: "weakref.ref[KeptFresh[Any]]", wake: threading.Event) -> None:
    """Fetches until nobody holds the secret any more; between two fetches it is not held from here."""
    while (secret := held()) is not None:
        wait = secret.refresh_if_due()
        del secret
        wake.wait(wait)
        wake.clear()
