"""Builds all objects of a process, wires them, and takes them down in order."""

import asyncio
import gc
import logging
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import grpc
import uvloop
from prometheus_client import start_http_server

from aigateway.v1.provider_pb2 import Provider
from gateway_server.auth.authenticator import Authenticator
from gateway_server.auth.keys import PepperError, Peppers, check_peppers, load_peppers
from gateway_server.bootstrap import Bootstrap
from gateway_server.clock import SystemClock
from gateway_server.errors import GatewayError
from gateway_server.guardrails.book import ProfileBook
from gateway_server.guardrails.detectors import Moderator, TextModels
from gateway_server.guardrails.ner.pool import EntityPool
from gateway_server.guardrails.pii.added import AddedKind, read_added_kinds
from gateway_server.guardrails.score_cache import CachedModels
from gateway_server.guardrails.text.models import load_models
from gateway_server.ids import new_id
from gateway_server.limits.admission import Admission
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.limiter import RateLimiter
from gateway_server.limits.redis_limits import RedisLimits
from gateway_server.limits.report_turns import ReportTurns
from gateway_server.logs import set_up_logs
from gateway_server.metrics import Metrics
from gateway_server.pipeline.account import Accounts, record_refusal
from gateway_server.pipeline.chat import ChatPipeline
from gateway_server.pipeline.count import CountPipeline
from gateway_server.pipeline.draining import Draining
from gateway_server.pipeline.embeddings import EmbeddingsPipeline
from gateway_server.pipeline.explain import Explainer, list_target_states
from gateway_server.pipeline.guarding import Guardrails
from gateway_server.pipeline.limit_usage import LimitUsageReader
from gateway_server.pipeline.moderating import ProviderModerator
from gateway_server.pipeline.present_budgets import PresentBudgets
from gateway_server.pipeline.try_out import try_guardrails
from gateway_server.pipeline.upstream import Upstream, UpstreamLimits
from gateway_server.providers.base import Endpoint
from gateway_server.providers.check import OpenEndpoint, ProviderChecker
from gateway_server.providers.credential_files import CredentialFiles
from gateway_server.providers.credentials import CredentialRules, Credentials
from gateway_server.providers.demo.transport import DemoTransport
from gateway_server.providers.media_fetch import MediaFetcher, MediaFetchLimits, Network
from gateway_server.providers.transport import PoolLimits, Transport
from gateway_server.resource_names import parse_provider
from gateway_server.router.affinity import Affinity
from gateway_server.router.catalog import Catalog
from gateway_server.router.following import CatalogFollower
from gateway_server.router.health import HealthBook
from gateway_server.router.retries import TryPolicy
from gateway_server.router.router import Router
from gateway_server.router.shared_health import SharedHealth
from gateway_server.rpc.admin.base import AdminDependencies
from gateway_server.rpc.admin.servicer import AdminServicer
from gateway_server.rpc.chat import ChatServicer
from gateway_server.rpc.embeddings import EmbeddingsServicer
from gateway_server.rpc.interceptors import Interceptors
from gateway_server.rpc.server import RpcServer, read_credentials
from gateway_server.rpc.usage import UsageServicer
from gateway_server.settings import Settings, SettingsError
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.audit import AuditRepository
from gateway_server.storage.budgets import BudgetRepository
from gateway_server.storage.catalog import load_catalog
from gateway_server.storage.changes import ChangeFeed
from gateway_server.storage.engine import Store, StoreUrlError, open_store, require_database
from gateway_server.storage.facts import settle_fact
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.guardrail_profiles import GuardrailProfileRepository
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.providers import ProviderRepository, Rekeyed
from gateway_server.storage.retention import RetentionRepository
from gateway_server.storage.routes import RouteRepository
from gateway_server.storage.schema import DatabaseVersionError, upgrade
from gateway_server.storage.sealing import MasterKeyError, MasterKeys
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tenants import TenantRepository
from gateway_server.storage.usage_records import UsageRepository
from gateway_server.storage.usage_sums import UsageSumRepository
from gateway_server.usage.expectation import OutputExpectation
from gateway_server.usage.journal import Journal
from gateway_server.usage.ledger import Ledger
from gateway_server.usage.recovery import Recovery
from gateway_server.usage.registry import Registry
from gateway_server.usage.retention import Retention

_log: Final = logging.getLogger(__name__)

_HEALTH_INTERVAL_SECONDS: Final = 2.0
_PEPPER_FILE: Final = "key-pepper"
_MASTER_KEY_FILE: Final = "master-key"
_JOURNAL_FOLDER: Final = "journal"
_STORE_ID: Final = "store_id"
#: What health checks call the limits that are shared in Redis.
_SHARED_LIMITS: Final = "aigateway.limits"
#: What they call the journals of killed processes, of which all should be settled.
_RECOVERY: Final = "aigateway.recovery"

#: For answers that are on their way when the last call has ended.
_GOODBYE_SECONDS: Final = 1.0
#: For cancelled calls until they are in the ledger; they only have to be told.
_SETTLE_SECONDS: Final = 5.0


class StartError(Exception):
    """The process cannot start; the message says why, without any secret."""

    #: The secret of an admin key that this start has made all the same; to be shown once.
    admin_key: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """What a process tells that now serves: ``admin_key`` is empty unless this start made one."""

    address: str
    admin_key: str


@dataclass(frozen=True, slots=True)
class _Base:
    """What serving and first set-up both need."""

    store: Store
    clock: SystemClock
    peppers: Peppers
    master_keys: MasterKeys
    credential_files: CredentialFiles
    credentials: Credentials
    transport: Transport
    checker: ProviderChecker
    admin_key: str


@asynccontextmanager
async def _base(settings: Settings) -> AsyncIterator[_Base]:
    """A migrated store with all that a first start makes."""
    await asyncio.to_thread(settings.state_dir.mkdir, parents=True, exist_ok=True)
    await upgrade(settings.store_url)
    store = open_store(settings.store_url)
    transport = await asyncio.to_thread(
        Transport,
        limits=PoolLimits(max_connections=settings.upstream_max_connections),
        ca_file=settings.upstream_ca_file,
        mounts={"demo": DemoTransport()},
    )
    try:
        peppers = await load_peppers(
            settings.key_pepper.get_secret_value(), settings.state_dir / _PEPPER_FILE
        )
        await check_peppers(store, peppers)
        clock = SystemClock()
        master_keys = await asyncio.to_thread(_load_master_keys, settings)
        files = CredentialFiles(settings.credential_dirs, interval=settings.refresh_seconds)
        rules = CredentialRules(settings.credential_env, settings.credential_dirs)
        credentials = Credentials(rules, files, master_keys)
        checker = ProviderChecker(transport, _open_endpoint(store, clock, credentials))
        admin_key = await Bootstrap(store, clock, peppers, checker).run(settings)
        yield _Base(
            store, clock, peppers, master_keys, files, credentials, transport, checker, admin_key=admin_key
        )
    finally:
        await transport.aclose()
        await store.close()


async def initialise(settings: Settings) -> str:
    """Migrates the store and makes what a first start makes; gives the admin key if this made one.

    Raises StartError.
    """
    with _start_errors():
        async with _base(settings) as base:
            return base.admin_key


async def rekey(settings: Settings) -> Rekeyed:
    """Seals the credentials in the store under the current master key. Raises StartError.

    Gateways that run on the store meanwhile need the current key too.
    """
    with _start_errors():
        await asyncio.to_thread(require_database, settings.store_url)
        await upgrade(settings.store_url)
        store = open_store(settings.store_url)
        try:
            master_keys = await asyncio.to_thread(_load_master_keys, settings)
            return await ProviderRepository(store, SystemClock()).rekey(master_keys)
        finally:
            await store.close()


async def verify_audit(settings: Settings) -> tuple[int, int | None]:
    """Walks the chain of audit events: see ``AuditRepository.find_break``. Raises StartError."""
    with _start_errors():
        await asyncio.to_thread(require_database, settings.store_url)
        store = open_store(settings.store_url)
        try:
            return await AuditRepository(store).find_break()
        finally:
            await store.close()


async def rebuild_usage(settings: Settings) -> int:
    """Makes the sums of usage anew from the ledger; of how many calls. Raises StartError."""
    with _start_errors():
        await asyncio.to_thread(require_database, settings.store_url)
        await upgrade(settings.store_url)
        store = open_store(settings.store_url)
        try:
            return await Settlements(store).rebuild_rollups()
        finally:
            await store.close()


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[Started], Awaitable[None]] | None = None,
    media_network: Network | None = None,
) -> None:
    """Serves until ``stop`` is set, then drains. Raises StartError when it cannot start.

    ``ready`` is awaited once calls can be served. ``media_network`` is where media are fetched from, if they
    are at all: the internet unless given.
    """
    async with AsyncExitStack() as stack:
        with _start_errors():
            base = await stack.enter_async_context(_base(settings))
        try:
            with _start_errors():
                server, admission = await _start(settings, base, stack, media_network)
        except StartError as error:
            error.admin_key = base.admin_key  # made, and in the store: whoever started it must see it
            raise
        address = f"{settings.listen.rpartition(':')[0]}:{server.port}"
        _log.info("listening on %s", address)
        if ready is not None:
            await ready(Started(address, base.admin_key))
        await stop.wait()
        await _drain(server, admission, settings.drain_seconds)


async def _start(
    settings: Settings, base: _Base, stack: AsyncExitStack, media_network: Network | None
) -> tuple[RpcServer, Admission]:
    """Starts everything that runs beside calls, binds the port last, and puts the reverse on ``stack``."""
    metrics = Metrics()
    registry, recovery, journal = await _register(settings, base, metrics)
    budgets = BudgetBook(BudgetRepository(base.store), registry.gateway_id, clock=base.clock, metrics=metrics)
    settlements = Settlements(base.store)
    ledger = Ledger(settlements, journal, registry.gateway_id, budgets=budgets)
    feed = ChangeFeed(base.store, base.clock, interval=settings.refresh_seconds)
    authenticator = Authenticator(
        ApiKeyRepository(base.store, base.clock), base.peppers, feed, clock=base.clock
    )
    await feed.poll()  # what changes from here on, while the catalog is read too, will be told
    expectation = OutputExpectation()
    router, follower = await _router(settings, base, feed, expectation, metrics)
    metrics.watch_breakers(router.breaker_states)
    upstream = Upstream(
        base.transport,
        UpstreamLimits(
            connect=settings.upstream_connect_seconds,
            first_byte=settings.upstream_first_byte_seconds,
            idle=settings.upstream_idle_seconds,
            max_response_bytes=settings.upstream_max_response_bytes,
        ),
    )
    shared_limits = await _join_others(settings, base, router, metrics, stack)
    limiter = RateLimiter(
        clock=base.clock, metrics=metrics, shared=shared_limits, share=lambda: registry.share
    )
    accounts = Accounts(
        ledger=ledger,
        metrics=metrics,
        limiter=limiter,
        budgets=PresentBudgets(budgets, authenticator),
        expectation=expectation,
    )
    moderator = ProviderModerator(
        router,
        upstream,
        metrics,
        get_provider=ProviderRepository(base.store, base.clock).get,
        open_endpoint=_open_endpoint(base.store, base.clock, base.credentials),
    )
    guardrails = await _guardrails(settings, base, feed, moderator, stack)
    media_fetcher = await _media_fetcher(settings, media_network)
    chat = ChatPipeline(
        router=router,
        upstream=upstream,
        accounts=accounts,
        guardrails=guardrails,
        flush_seconds=settings.stream_flush_ms / 1000,
        draining=Draining(settings.cancel_drain_seconds),
        media_fetcher=media_fetcher,
    )
    embeddings = EmbeddingsPipeline(
        router=router, upstream=upstream, accounts=accounts, guardrails=guardrails
    )
    counts = CountPipeline(
        router=router,
        upstream=upstream,
        accounts=accounts,
        guardrails=guardrails,
        media_fetcher=media_fetcher,
    )
    admission = Admission(settings.max_concurrent_calls)
    server = RpcServer(
        {
            "aigateway.v1.ChatService": ChatServicer(chat, counts, Explainer(router)),
            "aigateway.v1.EmbeddingsService": EmbeddingsServicer(embeddings),
            "aigateway.v1.AdminService": _admin(base, feed, router, guardrails),
            "aigateway.v1.UsageService": _usage(base, ledger, limiter, budgets),
        },
        Interceptors(
            authenticate=authenticator.authenticate,
            admission=admission,
            metrics=metrics,
            clock=base.clock,
            default_timeout=settings.default_timeout_seconds,
            max_timeout=settings.max_timeout_seconds,
            stream_stall_timeout=settings.stream_stall_seconds,
            record_refusal=lambda call, error: record_refusal(call, error, accounts=accounts),
        ),
        address=settings.listen,
        credentials=await _credentials(settings),
        max_request_bytes=settings.max_request_bytes,
        max_response_bytes=settings.upstream_max_response_bytes,
    )
    feed.subscribe(budgets.on_changes)
    stack.push_async_callback(_end_process, ledger, settlements, journal, registry.gateway_id)
    retention = Retention(RetentionRepository(base.store), settings.usage_retention_days, clock=base.clock)
    for part in (feed, follower, authenticator, base.credential_files, ledger, budgets, registry, retention):
        await part.start()
        if part is not ledger:
            stack.push_async_callback(part.close)
    stack.push_async_callback(chat.close)
    if settings.metrics_listen:
        stack.callback(_serve_metrics(settings.metrics_listen, metrics))
    await server.start()
    stack.push_async_callback(server.stop, 0)
    watch = asyncio.create_task(
        _watch_health(base.store, ledger, server, shared_limits, recovery), name="health"
    )
    stack.callback(watch.cancel)
    return server, admission


async def _register(settings: Settings, base: _Base, metrics: Metrics) -> tuple[Registry, Recovery, Journal]:
    """Makes this process known and opens its journal, once what killed ones left here is settled, as far as
    it can be.
    """
    store_id = await settle_fact(base.store, _STORE_ID, new_id())
    root = settings.state_dir / _JOURNAL_FOLDER
    gateways, settlements = GatewayRepository(base.store), Settlements(base.store)

    recovery = Recovery(
        root,
        store_id=store_id,
        gateways=gateways,
        settlements=settlements,
        clock=base.clock,
        metrics=metrics,
    )
    await recovery.run()
    gateway_id = new_id()
    await gateways.register(gateway_id)
    journal = await asyncio.to_thread(Journal.open, root, gateway_id, store_id=store_id)
    return Registry(gateways, gateway_id, recover=recovery.run), recovery, journal


async def _end_process(ledger: Ledger, settlements: Settlements, journal: Journal, gateway_id: str) -> None:
    """Writes the last rows and takes leave; what cannot be written stays for the next process."""
    left = await ledger.close()
    try:
        if not left:
            await settlements.finish(gateway_id)
    except GatewayError as error:
        _log.warning("the next process here ends what this one began: %s", error.message)
        left = 1
    await asyncio.to_thread(journal.close, delete=not left)


async def _added_kinds(file: Path | None) -> Mapping[str, AddedKind]:
    """Raises StartError."""
    if file is None:
        return {}
    try:
        return await asyncio.to_thread(read_added_kinds, file)
    except (OSError, ValueError) as error:
        raise StartError(f"pii_recognizers_file cannot be used: {error}") from None


async def _join_others(
    settings: Settings, base: _Base, router: Router, metrics: Metrics, stack: AsyncExitStack
) -> RedisLimits | None:
    """What processes share in Redis: the limits, and which targets fail; None without one."""
    redis_url = settings.redis_url.get_secret_value()
    if not redis_url:
        return None
    limits = RedisLimits(redis_url, clock=base.clock, metrics=metrics)
    await limits.start()
    stack.push_async_callback(limits.close)
    if settings.target_breaker:
        health = SharedHealth(redis_url, router, clock=base.clock, metrics=metrics)
        await health.start()
        stack.push_async_callback(health.close)
    return limits


async def _guardrails(
    settings: Settings, base: _Base, feed: ChangeFeed, moderator: Moderator, stack: AsyncExitStack
) -> Guardrails:
    """The guardrails, whose profiles are followed as they change; raises StartError."""
    models: Callable[[], TextModels] = cache(lambda: CachedModels(load_models()))
    entity_model = EntityPool(settings.ner_model, processes=settings.ner_processes)
    stack.push_async_callback(asyncio.to_thread, entity_model.close)
    book = ProfileBook(
        GuardrailProfileRepository(base.store, base.clock).list_all,
        models,
        entity_model,
        await _added_kinds(settings.pii_recognizers_file),
        moderator,
    )
    await book.refresh()
    feed.subscribe(book.on_changes)
    guardrails = Guardrails(book)
    stack.callback(guardrails.close)
    return guardrails


def _usage(base: _Base, ledger: Ledger, limiter: RateLimiter, budgets: BudgetBook) -> UsageServicer:
    tenants = TenantRepository(base.store, base.clock)
    return UsageServicer(
        UsageRepository(base.store),
        tenants,
        ledger,
        sums=UsageSumRepository(base.store, base.clock),
        turns=ReportTurns(),
        limit_usage=LimitUsageReader(
            tenants=tenants,
            api_keys=ApiKeyRepository(base.store, base.clock),
            limiter=limiter,
            budgets=budgets,
            clock=base.clock,
        ).read,
    )


async def _media_fetcher(settings: Settings, network: Network | None) -> MediaFetcher | None:
    """What fetches media that requests give by address; None when that is switched off."""
    if not settings.media_fetch:
        return None
    limits = MediaFetchLimits(
        max_bytes=settings.media_fetch_max_bytes,
        seconds=settings.media_fetch_timeout,
        connect_seconds=settings.upstream_connect_seconds,
    )
    if network is None:
        network = await asyncio.to_thread(Network.public)
    return MediaFetcher(network, limits)


def _admin(base: _Base, feed: ChangeFeed, router: Router, guardrails: Guardrails) -> AdminServicer:
    return AdminServicer(
        AdminDependencies(
            tenants=TenantRepository(base.store, base.clock),
            api_keys=ApiKeyRepository(base.store, base.clock),
            providers=ProviderRepository(base.store, base.clock),
            models=ModelRepository(base.store, base.clock),
            routes=RouteRepository(base.store, base.clock),
            guardrail_profiles=GuardrailProfileRepository(base.store, base.clock),
            audit=AuditRepository(base.store),
            feed=feed,
            peppers=base.peppers,
            master_keys=base.master_keys,
            clock=base.clock,
            validate_provider=base.credentials.validate,
            check_provider=base.checker.check,
            target_states=lambda: list_target_states(router.health, base.clock),
            validate_guardrail_profile=guardrails.book.validate,
            try_guardrails=partial(try_guardrails, guardrails),
        )
    )


async def _drain(server: RpcServer, admission: Admission, seconds: float) -> None:
    """Ends the serving: health checks and new callers are told, calls under way have ``seconds`` to end.

    The listener stays until they have, since a closed one could tell nobody anything.
    """
    _log.info("draining %d calls, for at most %g s", admission.in_flight, seconds)
    await server.announce_stop()
    admission.close()
    if await _is_idle(admission, seconds):
        # Settled is not yet sent; and who watches the health of a gateway must not keep it alive.
        await server.stop(_GOODBYE_SECONDS)
        return
    _log.warning("cancelling %d calls that did not end in %g s", admission.in_flight, seconds)
    await server.stop(0)
    if not await _is_idle(admission, _SETTLE_SECONDS):
        _log.error("%d calls did not settle", admission.in_flight)


async def _is_idle(admission: Admission, seconds: float) -> bool:
    """Waits for calls under way; False when some still are after so long."""
    try:
        async with asyncio.timeout(seconds):
            await admission.wait_idle()
    except TimeoutError:
        return False
    return True


def _load_master_keys(settings: Settings) -> MasterKeys:
    """The keys of the settings, else one of the gateway's own, made when it is needed. Reads files."""
    if text := settings.master_key.get_secret_value():
        return MasterKeys(text)
    if settings.master_key_file is not None:
        return MasterKeys(file=settings.master_key_file)
    return MasterKeys(file=settings.state_dir / _MASTER_KEY_FILE, make_file=True)


def _open_endpoint(store: Store, clock: SystemClock, credentials: Credentials) -> OpenEndpoint:
    """What makes the endpoint of a provider as it stands in the store now."""

    async def open_endpoint(provider: Provider) -> Endpoint:
        sealed = await ProviderRepository(store, clock).sealed_credential(parse_provider(provider.name))
        # In a thread: the credential may be in a file.
        return await asyncio.to_thread(credentials.endpoint_of, provider, sealed)

    return open_endpoint


async def _router(
    settings: Settings, base: _Base, feed: ChangeFeed, expectation: OutputExpectation, metrics: Metrics
) -> tuple[Router, CatalogFollower]:
    """A router, and what keeps its catalog as the store has it."""
    store, credentials = base.store, base.credentials

    async def load() -> Catalog:
        found = await load_catalog(store)

        def build_endpoint(provider: Provider) -> Endpoint:
            return credentials.endpoint_of(provider, found.credentials.get(provider.name))

        # In a thread: credentials may be in files.
        return await asyncio.to_thread(
            Catalog,
            found.providers,
            found.models,
            build_endpoint,
            routes=found.routes,
            now=base.clock.now(),
        )

    router = Router(
        await load(),
        HealthBook(base.clock, breaks=settings.target_breaker, on_cooldown=metrics.count_cooldown),
        affinity=Affinity(base.clock),
        expectation=expectation,
        policy=TryPolicy(
            max_attempts=settings.retry_max_attempts,
            initial_backoff=settings.retry_initial_backoff_ms / 1000,
            max_backoff=settings.retry_max_backoff_ms / 1000,
        ),
        draw=random.Random(),  # noqa: S311 -- spreads waits and load, keeps no secret
    )

    follower = CatalogFollower(router, load, base.clock)
    feed.subscribe(follower.on_changes)
    return router, follower


async def _watch_health(
    store: Store,
    ledger: Ledger,
    server: RpcServer,
    shared_limits: RedisLimits | None,
    recovery: Recovery,
) -> None:
    """Keeps health checks true: a gateway whose store is dead, or cannot be written, takes no calls."""
    serving = shared = True
    recovered = not recovery.left_count
    await server.set_part(_RECOVERY, serving=recovered)
    if shared_limits is not None:
        await server.set_part(_SHARED_LIMITS, serving=True)
    while True:
        await asyncio.sleep(_HEALTH_INTERVAL_SECONDS)
        try:
            await store.check()
            alive = ledger.healthy
        except GatewayError:
            alive = False
        if alive != serving:
            serving = alive
            _log.warning("the store %s", "can be used again" if alive else "cannot be used")
            await server.set_serving(serving=serving)
        if recovered == bool(recovery.left_count):
            recovered = not recovery.left_count
            await server.set_part(_RECOVERY, serving=recovered)
        if shared_limits is not None and shared == shared_limits.is_away:
            shared = not shared_limits.is_away
            await server.set_part(_SHARED_LIMITS, serving=shared)


def serve(settings: Settings, *, ready: Callable[[Started], Awaitable[None]] | None = None) -> None:
    """Runs a gateway in this process until SIGTERM or SIGINT. Raises StartError."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, stop.set)
        await run(settings, stop, ready=ready)

    set_up_logs(settings.log_level, settings.log_format)
    _tune_collector()
    uvloop.run(main())


def _tune_collector() -> None:
    """Has the collector of cyclic garbage look less often, and never at what lives as long as the process.

    With Python's defaults it takes about a sixth of a call's CPU time and finds next to nothing: calls
    leave few cycles behind. bench --memory shows that memory stays flat.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    cert, key, client_ca = settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise StartError("TLS needs both tls_cert_file and tls_key_file")
    return await asyncio.to_thread(read_credentials, cert, key, client_ca)


def _serve_metrics(address: str, metrics: Metrics) -> Callable[[], None]:
    """Serves metrics from a thread of their own; gives what ends it."""
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host, registry=metrics.registry)
    except OSError as error:
        raise OSError(f"cannot serve metrics on {address} (metrics_listen): {error.strerror}") from None

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close


@contextmanager
def _start_errors() -> Iterator[None]:
    """Turns what can be wrong at a start into StartError."""
    try:
        yield
    except (
        SettingsError,
        StoreUrlError,
        DatabaseVersionError,
        PepperError,
        MasterKeyError,
        OSError,
    ) as error:
        raise StartError(str(error)) from None
    except GatewayError as error:
        raise StartError(error.message) from None
