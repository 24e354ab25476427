"""``ai-gateway limits``."""

from typing import TYPE_CHECKING, Annotated

import typer

from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import short_name, tenant_parent
from gateway_server.cli.output import show_all, time_of
from gateway_server.cli.session import Session, with_session

if TYPE_CHECKING:
    from aigateway.v1.usage_service_pb2 import LimitUsage


@with_session
def limits(
    session: Session,
    tenant: Annotated[str, typer.Argument(help="Whose limits; with a key of its own, its tenant.")],
    *,
    key: Annotated[
        str,
        typer.Option(help="Also the limits of this key of the tenant. With a key of the tenant: that key."),
    ] = "",
) -> None:
    """Shows how much is used up of rate limits and budgets."""
    from aigateway.v1.usage_service_pb2 import LimitKind

    parent = tenant_parent(tenant)
    api_key = key if not key or "/" in key else f"{parent}/apiKeys/{key}"
    answer = session.client.usage.get_limits(parent, api_key=api_key)
    show_all(
        session,
        answer.limits,
        [
            ("OWNER", lambda limit: short_name(limit.owner) if "/apiKeys/" in limit.owner else limit.owner),
            ("MODELS", lambda limit: limit.model or "all"),
            ("LIMIT", lambda limit: LimitKind.Name(limit.kind).removeprefix("LIMIT_KIND_").lower()),
            ("USED", lambda limit: _amount(limit, limit.used)),
            ("HELD", lambda limit: _amount(limit, limit.held)),
            ("OF", lambda limit: _amount(limit, limit.limit)),
            (
                "LEFT",
                lambda limit: f"{max(limit.limit - limit.used - limit.held, 0) / max(limit.limit, 1):.0%}",
            ),
            ("RESET (UTC)", lambda limit: time_of(limit, "reset_time")),
        ],
    )


def _amount(limit: "LimitUsage", amount: int) -> str:
    from aigateway.v1.usage_service_pb2 import LimitKind

    budgets = {LimitKind.LIMIT_KIND_DAILY_BUDGET, LimitKind.LIMIT_KIND_MONTHLY_BUDGET}
    return dollars_of(amount) if limit.kind in budgets else f"{amount:,}"
