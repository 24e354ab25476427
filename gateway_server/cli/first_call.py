"""Shows, once a gateway serves, one call from beginning to end: key, streamed answer, usage record."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aigateway import AsyncClient, ConflictError, GatewayError, types
from gateway_server.cli.chat import summarise
from gateway_server.cli.exit_codes import explain
from gateway_server.cli.money import dollars_of
from gateway_server.cli.output import milliseconds_of

if TYPE_CHECKING:
    from gateway_server.app import Started

TENANT: Final = "tenants/first-call"
KEY: Final = f"{TENANT}/apiKeys/first-call"
MODEL: Final = "demo/demo-chat"
PROMPT: Final = "What happens to this question on its way?"

# The ledger is written beside the calls, within a moment.
_LEDGER_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1


async def show_first_call(started: "Started", *, tls: bool) -> None:
    """Makes a tenant and a key through the API, asks the demo provider with them, and shows the record.

    A failure is told and ends nothing: the gateway goes on serving.
    """
    admin_key = started.admin_key or os.environ.get("AIGW_API_KEY", "")
    if tls:
        print("The first call is shown without TLS only.", file=sys.stderr)
        return
    if not admin_key:
        print(
            "Not the first start: the admin key was shown then. With it in AIGW_API_KEY, the call is made.",
            file=sys.stderr,
        )
        return
    target = _reachable(started.address)
    try:
        async with AsyncClient(target, api_key=admin_key) as admin:
            secret = await _make_key(admin)
            async with AsyncClient(target, api_key=secret) as caller:
                await _ask(caller)
            _print_next_steps(secret)
    except GatewayError as error:
        print(explain(error), file=sys.stderr)


async def _make_key(admin: AsyncClient) -> str:
    """The secret of a key of the tenant; both are made if they are not there."""
    tenant = types.Tenant(display_name="Made for the first call")
    with suppress(ConflictError):
        await admin.admin.tenants.create(tenant, tenant_id="first-call")
    key = types.ApiKey(environment="demo")
    try:
        return (await admin.admin.api_keys.create(TENANT, key, api_key_id="first-call")).secret
    except ConflictError:
        return (await admin.admin.api_keys.rotate(KEY)).secret


async def _ask(caller: AsyncClient) -> None:
    print(f"\n{MODEL} is asked, with a key of {TENANT}: {PROMPT}\n", flush=True)
    async with caller.chat.stream(MODEL, PROMPT) as stream:
        async for piece in stream.text_stream:
            print(piece, end="", flush=True)
    print(f"\n\n{summarise(stream.completion)}", flush=True)
    record = await _find_record(caller, stream.completion.id)
    if record is None:
        print("Its usage record is not written yet.", flush=True)
        return
    print(
        f"Usage record {record.name}: {record.usage.total_tokens} tokens,"
        f" {dollars_of(record.cost.total_nanos)}, {milliseconds_of(record, 'latency')} ms,"
        f" first token after {milliseconds_of(record, 'time_to_first_token')} ms",
        flush=True,
    )


async def _find_record(caller: AsyncClient, completion_id: str) -> types.UsageRecord | None:
    for _ in range(int(_LEDGER_SECONDS / _POLL_SECONDS)):
        async for record in caller.usage.list_records(TENANT, page_size=10):
            if record.name.endswith(f"/{completion_id}"):
                return record
        await asyncio.sleep(_POLL_SECONDS)
    return None


def _command() -> str:
    """How this command is called from another terminal: by its path where it lies below this folder.

    `uv run` has put it on the PATH of this process alone.
    """
    own = Path(sys.executable).with_name("ai-gateway")
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else "ai-gateway"


def _print_next_steps(secret: str) -> None:
    command = _command()
    print(
        f"\nTry it from another terminal:\n"
        f"  export AIGW_API_KEY={secret}\n"
        f'  {command} chat -m {MODEL} "Hello"\n'
        f"The admin key opens the rest: {command} models list, {command} usage. Ctrl-C stops.",
        flush=True,
    )


def _reachable(address: str) -> str:
    """The address as a client on this machine reaches it."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in {"", "0.0.0.0"} else f"[::1]:{port}" if host == "[::]" else address  # noqa: S104
