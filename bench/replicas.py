"""Three replicas of the gateway against one: what they cost each other, and whether limits stay exact.

    uv run --frozen python -m bench.replicas
    uv run --frozen python -m bench.replicas --rounds 3

One gateway, and three that share a database and a Redis, have the same callers in turns: a third of them each
where there are three. All share PostgreSQL and the machine's cores, so that it is CPU time and statements for
a call that tell what replicas cost each other, not calls a second. Then callers run into a small budget, and
into a small rate limit, as fast as they can.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import asyncpg
import redis

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.tenant_pb2 import Budget, RateLimits, Tenant
from bench.cases import UNARY
from bench.children import cpu_nanoseconds
from bench.gateways import (
    FAR_BUDGET,
    FAR_LIMITS,
    Gateway,
    administered,
    new_admin_key,
    start_gateway,
)
from bench.load import ready_callers
from bench.subjects import Subject, check_answer, start_upstream
from tests.support.services import SERVICES

_SIZES: Final = (1, 3)
_CALLERS: Final = 48
_MAX_CALLS: Final = 1_000_000
#: For what is written behind the calls, and until PostgreSQL tells of it, which takes it a second.
_SETTLE_SECONDS: Final = 1.5
#: Until all gateways have heard of a change.
_NEWS_SECONDS: Final = 2.5
_IDLE_SECONDS: Final = 3.0
#: Until the ledger has all calls and idle leases went back.
_REST_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.02

#: Calls that fit into the small budget, at most, and requests a minute of the small limit.
_BUDGET_CALLS: Final = 500
_REQUESTS_PER_MINUTE: Final = 600


@dataclass(frozen=True, slots=True)
class Counts:
    """What gateways used so far: CPU time in nanoseconds, and what they sent to the shared stores."""

    cpu: int
    statements: int
    transactions: int
    redis_commands: int
    redis_reads: int

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.cpu - other.cpu,
            self.statements - other.statements,
            self.transactions - other.transactions,
            self.redis_commands - other.redis_commands,
            self.redis_reads - other.redis_reads,
        )


@dataclass(frozen=True, slots=True)
class Load:
    """What some callers did, all of them together, and what that took."""

    calls: int
    failed: int
    first_error: str
    seconds: float
    counts: Counts


@dataclass(frozen=True, slots=True)
class Group:
    """Gateways that share their stores."""

    gateways: tuple[Gateway, ...]
    database: str
    redis_port: int

    def add_tenant(self, tenant_id: str, tenant: Tenant, api_key: ApiKey) -> str:
        """What callers with a key of a new tenant send."""
        with administered(self.gateways[0]) as admin:
            authorization = admin.add_key(admin.add_tenant(tenant_id, tenant), api_key)
        time.sleep(_NEWS_SECONDS)
        return authorization

    def counts(self) -> Counts:
        """What its gateways used so far."""
        (row,) = self.fetch(
            "SELECT xact_commit + xact_rollback AS transactions,"
            " (SELECT sum(calls) FROM pg_stat_statements s WHERE s.dbid = d.datid)::bigint AS statements"
            " FROM pg_stat_database d WHERE datname = $1",
            self.database,
            database="postgres",
        )
        with redis.Redis(port=self.redis_port) as client:
            info: dict[str, Any] = client.info("stats")
        return Counts(
            sum(cpu_nanoseconds(gateway.pid) for gateway in self.gateways),
            row["statements"],
            row["transactions"],
            info["total_commands_processed"],
            info["total_reads_processed"],
        )

    def fetch(self, statement: str, *arguments: object, database: str = "") -> list[asyncpg.Record]:
        """Rows of its database, or of another."""
        return asyncio.run(_fetch(database or self.database, statement, *arguments))

    def run(self, authorization: str, seconds: float) -> Load:
        """Keeps callers busy on all gateways at once."""
        with ExitStack() as stack:
            clients = [
                stack.enter_context(
                    ready_callers(
                        Subject("", gateway.pid, gateway.port, authorization),
                        UNARY,
                        callers=_CALLERS // len(self.gateways),
                        seconds=seconds,
                        max_calls=_MAX_CALLS,
                    )
                )
                for gateway in self.gateways
            ]
            time.sleep(_SETTLE_SECONDS)
            before = self.counts()
            for client in clients:
                client.write_line()
            found = [json.loads(client.read_line()) for client in clients]
            time.sleep(_SETTLE_SECONDS)
            counts = self.counts() - before
        return Load(
            sum(each["calls"] for each in found),
            sum(each["failed"] for each in found),
            next((each["first_error"] for each in found if each["failed"]), ""),
            max(each["seconds"] for each in found),
            counts,
        )


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(prog="bench.replicas", description="Three replicas against one.")
    parser.add_argument("--rounds", type=int, default=9, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each interval")
    parser.add_argument("--exhaust", type=float, default=6.0, help="seconds for running into a limit")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        stack.callback(SERVICES.close)
        upstream, base_url = start_upstream(stack)
        groups = [_start_group(stack, size, base_url) for size in _SIZES]
        print(_cost_table(groups, arguments.rounds, arguments.seconds), flush=True)
        print()
        print(_exactness_table(groups, arguments.exhaust))
        assert not upstream.exited  # noqa: S101 - it answered to the end


def _cost_table(groups: Sequence[Group], rounds: int, seconds: float) -> str:
    authorizations = []
    for group in groups:
        tenant = Tenant(rate_limits=FAR_LIMITS, budget=FAR_BUDGET)
        key = ApiKey(rate_limits_override=FAR_LIMITS, budget=FAR_BUDGET)
        authorizations.append(group.add_tenant("far", tenant, key))
        for gateway in group.gateways:
            check_answer(Subject("", gateway.pid, gateway.port, authorizations[-1]), UNARY)
    loads: list[list[Load]] = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        turns = list(zip(groups, authorizations, strict=True))
        order = turns if number % 2 == 0 else turns[::-1]
        found = [group.run(authorization, seconds) for group, authorization in order]
        if failed := [load.first_error for load in found if load.failed]:
            raise RuntimeError(f"calls failed: {failed[0]}")
        loads.append(found if number % 2 == 0 else found[::-1])
    figures: dict[str, Callable[[Load], float]] = {
        "CPU of the gateways, us a call": lambda load: load.counts.cpu / 1000 / load.calls,
        "SQL statements a call": lambda load: load.counts.statements / load.calls,
        "SQL transactions a call": lambda load: load.counts.transactions / load.calls,
        "Redis commands a call": lambda load: load.counts.redis_commands / load.calls,
        "Redis reads of a request, a call": lambda load: load.counts.redis_reads / load.calls,
        "calls a second": lambda load: load.calls / load.seconds,
    }
    lines = ["| What | one | three | three / one |", "| --- | --- | --- | --- |"]
    for name, figure in figures.items():
        one, three = ([figure(load) for load in column] for column in zip(*loads, strict=True))
        ratios = [more / less for less, more in zip(one, three, strict=True)]
        lines.append(
            f"| {name} | {_text(median(one))} | {_text(median(three))} "
            f"| {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    idle = [_idle_statements(group) for group in groups]
    lines.append(f"| SQL statements a second at rest | {idle[0]:.1f} | {idle[1]:.1f} | |")
    return "\n".join(lines)


def _idle_statements(group: Group) -> float:
    """What gateways ask the database that have nothing to do, a second."""
    time.sleep(_REST_SECONDS)
    before = group.counts()
    time.sleep(_IDLE_SECONDS)
    return (group.counts() - before).statements / _IDLE_SECONDS


def _exactness_table(groups: Sequence[Group], seconds: float) -> str:
    lines = ["| What | one | three |", "| --- | --- | --- |"]
    budgets = [_exhaust_budget(group, seconds) for group in groups]
    limits = [_exhaust_limit(group, seconds) for group in groups]
    for rows in (budgets, limits):
        lines += [f"| {name} | {rows[0][name]} | {rows[1][name]} |" for name in rows[0]]
    return "\n".join(lines)


def _exhaust_budget(group: Group, seconds: float) -> dict[str, str]:
    """Calls until well after a budget is spent. Raises RuntimeError if more was spent or held at any time."""
    (row,) = group.fetch("SELECT max(cost_nanos) AS nanos FROM usage_records WHERE tenant_id = 'far'")
    cap = row["nanos"] * _BUDGET_CALLS
    # A day alone: what is spent must not run into a month.
    authorization = group.add_tenant("poor", Tenant(budget=Budget(daily_nanos=cap)), ApiKey())
    most = asyncio.run(_watch_window(group, authorization, seconds))
    time.sleep(_REST_SECONDS)
    (window,) = group.fetch("SELECT spent_nanos, leased_nanos FROM budget_windows WHERE tenant_id = 'poor'")
    (ledger,) = group.fetch(
        "SELECT sum(cost_nanos)::bigint AS nanos, count(*) FILTER (WHERE status_code = 0) AS served,"
        " count(*) FILTER (WHERE status_code <> 0) AS refused FROM usage_records WHERE tenant_id = 'poor'"
    )
    if (
        max(most, window["spent_nanos"] + window["leased_nanos"]) > cap
        or ledger["nanos"] != window["spent_nanos"]
    ):
        raise RuntimeError(f"{window} and {ledger}, at most {most} at once, of {cap}")
    return {
        f"a budget for {_BUDGET_CALLS:,} calls: served": f"{ledger['served']:,}",
        "refused": f"{ledger['refused']:,}",
        "spent and held, at most, of the budget": f"{most / cap:.1%}",
        "spent in the end, of the budget": f"{window['spent_nanos'] / cap:.1%}",
    }


async def _watch_window(group: Group, authorization: str, seconds: float) -> int:
    """The most that was spent and leased at once while callers spend what there is."""
    running = asyncio.create_task(asyncio.to_thread(group.run, authorization, seconds))
    connection = await _connect(group.database)
    most = 0
    while not running.done():
        row = await connection.fetchrow(
            "SELECT max(spent_nanos + leased_nanos) AS nanos FROM budget_windows WHERE tenant_id = 'poor'"
        )
        most = max(most, row["nanos"] or 0)
        await asyncio.sleep(_LOOK_SECONDS)
    await running
    await connection.close()
    return most


def _exhaust_limit(group: Group, seconds: float) -> dict[str, str]:
    """Calls far over a rate limit. Raises RuntimeError if more were let through than a full bucket and what
    drained meanwhile.
    """
    limits = RateLimits(requests_per_minute=_REQUESTS_PER_MINUTE)
    authorization = group.add_tenant("slow", Tenant(rate_limits=limits), ApiKey())
    began = time.monotonic()
    group.run(authorization, seconds)
    took = time.monotonic() - began
    time.sleep(_REST_SECONDS)
    (row,) = group.fetch("SELECT count(*) AS sent FROM usage_attempts WHERE tenant_id = 'slow'")
    allowed = int(_REQUESTS_PER_MINUTE * (1 + took / 60))
    if row["sent"] > allowed:
        raise RuntimeError(f"{row['sent']} calls were let through where {allowed} may be")
    return {
        f"{_REQUESTS_PER_MINUTE} requests a minute: served": f"{row['sent']:,}",
        "may be served, at most, in that time": f"{allowed:,}",
    }


def _start_group(stack: ExitStack, size: int, base_url: str) -> Group:
    """Gateways that share a database and a Redis of their own."""
    database = f"replicas_{size}"
    _count_statements()
    asyncio.run(_fetch("postgres", f"CREATE DATABASE {database}"))
    redis_port = SERVICES.own("redis").port
    settings = {
        "AIGW_DATABASE_URL": f"{_server()}/{database}",
        "AIGW_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
        "AIGW_ADMIN_KEY": new_admin_key(),
        "AIGW_KEY_PEPPER": "1:a pepper that replicas share",
    }
    gateways = tuple(start_gateway(stack, settings=settings) for _ in range(size))
    with administered(gateways[0]) as admin:
        admin.add_provider(base_url)
    return Group(gateways, database, redis_port)


def _count_statements() -> None:
    """Has PostgreSQL count statements, which takes a start anew, unless it does."""
    if asyncio.run(_fetch("postgres", "SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'")):
        return
    asyncio.run(_fetch("postgres", "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'"))
    SERVICES.postgresql().stop()
    SERVICES.postgresql().start()
    asyncio.run(_fetch("postgres", "CREATE EXTENSION pg_stat_statements"))


def _server() -> str:
    return f"postgresql://postgres@127.0.0.1:{SERVICES.postgresql().port}"


async def _connect(database: str) -> asyncpg.Connection:
    return await asyncpg.connect(f"{_server()}/{database}")


async def _fetch(database: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await _connect(database)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
    finally:
        await connection.close()
    return rows


def _text(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3f}"


if __name__ == "__main__":
    main()
