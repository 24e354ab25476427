"""Page tokens that nobody gave out, but whose form is right: a token is checked, not signed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.storage import paging
from gateway_server.storage.api_keys import ApiKeyRepository
from gateway_server.storage.audit import AuditRepository
from gateway_server.storage.engine import Store
from gateway_server.storage.guardrail_profiles import GuardrailProfileRepository
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.paging import Cursor, PageRequest, encode_page_token
from gateway_server.storage.providers import ProviderRepository
from gateway_server.storage.routes import RouteRepository
from gateway_server.storage.tenants import TenantRepository
from gateway_server.storage.usage_records import UsageQuery, UsageRepository
from gateway_server.storage.usage_sums import SumQuery, UsageSumRepository
from tests.support.stores import SetClock

DAY: Final = 86_400_000_000
CALLS: Final = UsageQuery("acme", start_time=0, end_time=2 * DAY)
SUMS: Final = {
    "by step": SumQuery(CALLS, step="hour", group_by=("provider_id",)),
    "by status": SumQuery(CALLS, group_by=("status_code",), labels=("team",)),
    "largest": SumQuery(CALLS, group_by=("api_key_id",), largest="cost_nanos"),
}

Ask = Callable[[Store, PageRequest], Awaitable[object]]


def of_sums(query: SumQuery) -> Ask:
    return lambda store, page: UsageSumRepository(store, SetClock()).query(query, page)


#: Each list, with the types of the places in it.
LISTS: Final[dict[str, tuple[Ask, tuple[type, ...]]]] = {
    "tenants": (lambda store, page: TenantRepository(store, SetClock()).list_page(page), (str,)),
    "keys": (lambda store, page: ApiKeyRepository(store, SetClock()).list_page("acme", page), (str,)),
    "providers": (lambda store, page: ProviderRepository(store, SetClock()).list_page(page), (str,)),
    "models": (lambda store, page: ModelRepository(store, SetClock()).list_page("p", page), (str,)),
    "routes": (lambda store, page: RouteRepository(store, SetClock()).list_page(page), (str,)),
    "profiles": (
        lambda store, page: GuardrailProfileRepository(store, SetClock()).list_page(page),
        (str,),
    ),
    "audit": (lambda store, page: AuditRepository(store).list_page(page), (int,)),
    "calls": (lambda store, page: UsageRepository(store).list_page(CALLS, page), (int, str)),
    "by step": (of_sums(SUMS["by step"]), (int, str)),
    "by status": (of_sums(SUMS["by status"]), (int, int, str)),
    "largest": (of_sums(SUMS["largest"]), (int, int, str)),
}
TEXTS: Final = ("\0", "a\0b", "\ud7ff\U0010ffff", "'", "x" * 100_000)
NUMBERS: Final = (-(2**63), 2**63 - 1, 2**63, 2**64 - 1, -(2**31) - 1, 2**31)


def forged(shape: tuple[type, ...]) -> list[Cursor]:
    """Places of this shape in which one value is none that the list has."""
    plain: Cursor = tuple("a" if kind is str else 1 for kind in shape)
    return [
        (*plain[:at], value, *plain[at + 1 :])
        for at, kind in enumerate(shape)
        for value in (TEXTS if kind is str else NUMBERS)
    ]


@pytest.mark.parametrize("name", LISTS)
async def test_a_forged_token_is_a_place_or_a_mistake(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever forges knows how the check is made; here nobody needs to know each list's query.
    monkeypatch.setattr(paging, "_check", lambda _, __: b"." * 12)
    ask, shape = LISTS[name]
    refusals = []
    for cursor in forged(shape):
        try:
            await ask(store, PageRequest(2, encode_page_token(cursor, ())))
        except GatewayError as error:
            refusals.append(error)
    assert len(refusals) >= 2, "what no database can hold is refused"
    assert {error.reason for error in refusals} == {ErrorReason.ERROR_REASON_INVALID_REQUEST}
    assert {each.field for error in refusals for each in error.violations} == {"page_token"}
