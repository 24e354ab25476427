"""Who a secret belongs to, without SQL on the way: keys are cached and forgotten when they change.

What a process changes itself is in effect at once, what others change at the next poll of the change feed.
While the store is dead, keys that were in use go on working for a while: see ``max_staleness``.
"""

import asyncio
import hmac
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.auth.keys import Peppers, is_well_formed
from gateway_server.auth.limits import budget_limits, rate_limits
from gateway_server.call import BudgetLimit, Principal
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.resource_names import parse_api_key, parse_tenant
from gateway_server.storage.api_keys import ApiKeyRepository, FoundKey
from gateway_server.storage.changes import ChangeFeed, Changes
from gateway_server.storage.engine import store_unavailable
from gateway_server.storage.times import micros_of_timestamp
from gateway_server.tasks import end_task
from gateway_server.time_zones import load_time_zones

_LOG: Final = logging.getLogger(__name__)

DEFAULT_SCOPES: Final = frozenset({Scope.SCOPE_INFERENCE, Scope.SCOPE_USAGE_READ})

_MICROS: Final = 1_000_000
_MINUTE: Final = 60
_MAX_LOOKUPS: Final = 1_000
_RETRY_AFTER_SECONDS: Final = 1.0
#: How often budgets are read once more when keys changed meanwhile.
_BUDGET_READS: Final = 3


@dataclass(slots=True)
class _Entry:
    """A key as it was looked up. Only ``used_minute`` changes."""

    principal: Principal
    suspended: bool
    #: In seconds since the epoch; the earlier of the key's and of the secret's own end.
    expire_time: float | None
    used_minute: int = -1


class Authenticator:
    """Turns secrets into principals. Its owner starts and closes it."""

    def __init__(
        self,
        api_keys: ApiKeyRepository,
        peppers: Peppers,
        feed: ChangeFeed,
        *,
        clock: Clock,
        max_cached_keys: int = 100_000,
        max_refused_keys: int = 10_000,
        refused_seconds: float = 10.0,
        max_staleness: float = 300.0,
        use_interval: float = 60.0,
    ) -> None:
        """``max_staleness`` is for how many seconds without the store a cached key is still taken.

        ``refused_seconds`` is how long an unknown secret is refused unseen, ``use_interval`` how often the
        times of last use are written.
        """
        self._api_keys = api_keys
        self._peppers = peppers
        self._feed = feed
        self._clock = clock
        self._max_cached = max_cached_keys
        self._max_refused = max_refused_keys
        self._refused_seconds = refused_seconds
        self._max_staleness = max_staleness
        self._use_interval = use_interval
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._digests: dict[tuple[str, str], set[bytes]] = {}
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        #: Look-ups that later callers may join, and all that are under way.
        self._lookups: dict[bytes, asyncio.Task[_Entry | None]] = {}
        self._reading: set[asyncio.Task[_Entry | None]] = set()
        #: Budgets of keys that changed while they had calls under way, read since the last change of any key.
        self._budgets: dict[tuple[str, str], tuple[BudgetLimit, ...]] = {}
        #: Rises with every change of keys, so that what was read before it is not cached after it.
        self._generation = 0
        self._uses: dict[tuple[str, str], int] = {}
        self._writer: asyncio.Task[None] | None = None
        feed.subscribe(self._on_changes)

    async def authenticate(self, secret: str) -> Principal:
        """Who calls with ``secret``; raises API_KEY_MISSING, API_KEY_INVALID, TENANT_SUSPENDED.

        STORE_UNAVAILABLE when the key is not cached, or is for too long, and the store does not answer.
        """
        if not secret:
            raise GatewayError(
                ErrorReason.ERROR_REASON_API_KEY_MISSING,
                "no API key was sent; send it as metadata 'authorization: Bearer sk-gw-...'",
            )
        if not is_well_formed(secret):
            raise _invalid()
        digest = self._peppers.hash(secret)
        entry = self._entries.get(digest)
        if entry is None:
            entry = await self._look_up(digest, secret)
        else:
            self._entries.move_to_end(digest)
            if self._feed.age > self._max_staleness:
                raise store_unavailable()
        return self._admit(entry)

    def cached_budgets(self, principal: Principal) -> tuple[BudgetLimit, ...] | None:
        """The budgets of a caller as they are now; None when that is not known without the store."""
        key = principal.tenant_id, principal.api_key_id
        for digest in self._digests.get(key, ()):
            return self._entries[digest].principal.budgets
        return self._budgets.get(key)

    async def read_budgets(self, principal: Principal) -> tuple[BudgetLimit, ...] | None:
        """The budgets of a caller from the store; None when its key was deleted, or keys change all the time.

        Raises STORE_UNAVAILABLE.
        """
        key = principal.tenant_id, principal.api_key_id
        for _ in range(_BUDGET_READS):
            generation = self._generation
            found = await self._api_keys.find_with_tenant(*key)
            if found is None:
                return None
            api_key, tenant = found
            await load_time_zones(tenant.budget.time_zone, api_key.budget.time_zone)
            budgets = budget_limits(tenant, api_key)
            if generation == self._generation:
                if len(self._budgets) >= self._max_cached:
                    self._budgets.clear()
                self._budgets[key] = budgets
                return budgets
        return None

    def invalidate_key(self, tenant_id: str, api_key_id: str) -> None:
        """Forgets a key, so that its next call reads it again."""
        self._begin_generation()
        self._refused.clear()  # it may just have been made
        for digest in self._digests.pop((tenant_id, api_key_id), ()):
            self._entries.pop(digest, None)

    def invalidate_tenant(self, tenant_id: str) -> None:
        """Forgets all keys of a tenant."""
        self._begin_generation()
        for key in [key for key in self._digests if key[0] == tenant_id]:
            self.invalidate_key(*key)

    def invalidate_all(self) -> None:
        """Forgets everything."""
        self._begin_generation()
        self._refused.clear()
        self._digests.clear()
        self._entries.clear()

    def _begin_generation(self) -> None:
        self._generation += 1
        self._lookups.clear()  # whoever asks from now on must not get what was read before
        self._budgets.clear()

    async def start(self) -> None:
        """Begins to write when keys were last used."""
        self._writer = asyncio.create_task(self._write_uses_for_ever(), name="key uses")

    async def close(self) -> None:
        """Stops, after writing what is known of uses; does not fail."""
        if self._writer is not None:
            await end_task(self._writer)
            self._writer = None
        if self._reading:
            await asyncio.wait(self._reading)
        await self.write_uses()

    async def write_uses(self) -> None:
        """Writes when keys were last used, to the minute; keeps it for later while the store is dead."""
        uses, self._uses = self._uses, {}
        written = False
        try:
            await self._api_keys.record_uses(uses)
            written = True
        except GatewayError as error:
            _LOG.warning("the times of last use of %d keys are not written yet: %s", len(uses), error.message)
        finally:
            if not written:
                self._uses = {**uses, **self._uses}

    def _admit(self, entry: _Entry | None) -> Principal:
        now = self._clock.now()
        if entry is None or (entry.expire_time is not None and now >= entry.expire_time):
            raise _invalid()
        principal = entry.principal
        if entry.suspended:
            raise GatewayError(
                ErrorReason.ERROR_REASON_TENANT_SUSPENDED,
                f"{principal.tenant} is suspended",
                metadata={"tenant": principal.tenant},
            )
        minute = int(now // _MINUTE)
        if entry.used_minute != minute:
            entry.used_minute = minute
            self._uses[(principal.tenant_id, principal.api_key_id)] = minute * _MINUTE * _MICROS
        return principal

    async def _look_up(self, digest: bytes, secret: str) -> _Entry | None:
        """The key's entry from the store, None when there is none; one query however many wait for it."""
        refused_until = self._refused.get(digest)
        if refused_until is not None and self._clock.monotonic() < refused_until:
            return None
        task = self._lookups.get(digest)
        if task is None:
            if len(self._reading) >= _MAX_LOOKUPS:
                raise GatewayError(
                    ErrorReason.ERROR_REASON_OVERLOADED,
                    f"{_MAX_LOOKUPS} API keys are being looked up and no more can wait",
                    metadata={"limit": str(_MAX_LOOKUPS)},
                    retry_after=_RETRY_AFTER_SECONDS,
                )
            # A task of its own: the first caller may go away while others wait.
            task = asyncio.create_task(self._read(digest, secret), name="key look-up")
            task.add_done_callback(lambda done: self._forget_look_up(digest, done))
            self._lookups[digest] = task
            self._reading.add(task)
        return await asyncio.shield(task)

    def _forget_look_up(self, digest: bytes, task: asyncio.Task[_Entry | None]) -> None:
        self._reading.discard(task)
        if self._lookups.get(digest) is task:
            del self._lookups[digest]
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may have

    async def _read(self, digest: bytes, secret: str) -> _Entry | None:
        generation = self._generation
        hashes = self._peppers.hashes(secret)
        found = await self._api_keys.find(hashes)
        entry = None
        if found is not None and any(hmac.compare_digest(found.hash, candidate) for candidate in hashes):
            entry = _entry_of(found)
            await load_time_zones(found.tenant.budget.time_zone, found.api_key.budget.time_zone)
        if generation == self._generation:
            self._keep(digest, entry)
        return entry

    def _keep(self, digest: bytes, entry: _Entry | None) -> None:
        if entry is None:
            self._refused[digest] = self._clock.monotonic() + self._refused_seconds
            self._refused.move_to_end(digest)
            if len(self._refused) > self._max_refused:
                self._refused.popitem(last=False)
            return
        self._refused.pop(digest, None)
        self._entries[digest] = entry
        self._digests.setdefault(_key_of(entry), set()).add(digest)
        if len(self._entries) > self._max_cached:
            oldest, dropped = self._entries.popitem(last=False)
            digests = self._digests[_key_of(dropped)]
            digests.discard(oldest)
            if not digests:
                del self._digests[_key_of(dropped)]

    async def _on_changes(self, changes: Changes) -> None:
        if not changes.complete:
            self.invalidate_all()
            return
        for resource in changes.resources:
            match resource.split("/"):
                case ["tenants", _]:
                    self.invalidate_tenant(parse_tenant(resource))
                case ["tenants", _, "apiKeys", _]:
                    self.invalidate_key(*parse_api_key(resource))
                case _:
                    pass  # no business of a key

    async def _write_uses_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._use_interval)
            await self.write_uses()


def _entry_of(found: FoundKey) -> _Entry | None:
    """The entry of a key; None when it is revoked, which is for good."""
    api_key, tenant = found.api_key, found.tenant
    if api_key.HasField("revoke_time"):
        return None
    tenant_id, api_key_id = parse_api_key(api_key.name)
    ends = [found.secret_expire_time] if found.secret_expire_time is not None else []
    if api_key.HasField("expire_time"):
        ends.append(micros_of_timestamp(api_key.expire_time))
    return _Entry(
        principal=Principal(
            tenant_id=tenant_id,
            api_key_id=api_key_id,
            scopes=frozenset(api_key.scopes) or DEFAULT_SCOPES,
            environment=api_key.environment,
            allowed_models=(tuple(tenant.allowed_models), tuple(api_key.allowed_models_override)),
            default_route=tenant.default_route,
            guardrail_profile=api_key.guardrail_profile_override or tenant.guardrail_profile,
            rate_limits=rate_limits(tenant, api_key),
            budgets=budget_limits(tenant, api_key),
            refuses_without_limiter=tenant.limiter_failure_policy == Tenant.LIMITER_FAILURE_POLICY_CLOSED,
        ),
        suspended=tenant.state == Tenant.STATE_SUSPENDED,
        expire_time=min(ends) / _MICROS if ends else None,
    )


def _key_of(entry: _Entry) -> tuple[str, str]:
    return entry.principal.tenant_id, entry.principal.api_key_id


def _invalid() -> GatewayError:
    return GatewayError(
        ErrorReason.ERROR_REASON_API_KEY_INVALID,
        "the API key is not known, or it has expired, was revoked or deleted",
    )
