"""Groups of options that several commands share: each field of a class is an option."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gateway_server.cli.edit import Edit, parse_pairs
from gateway_server.cli.money import nanos_of

Clear = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD", help="Empty a field, as in `rate_limits.tokens_per_minute`; may be repeated."
    ),
]
Etag = Annotated[str, typer.Option(help="Only if the resource still has this etag.")]


@dataclass(frozen=True, kw_only=True)
class Described:
    """What every resource has."""

    display_name: Annotated[str | None, typer.Option(help="A name for people.")] = None
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; may be repeated.")
    ] = None

    def write(self, edit: Edit) -> None:
        """Sets the fields that were given."""
        edit.set(display_name=self.display_name, labels=parse_pairs(self.label or ()))


@dataclass(frozen=True, kw_only=True)
class Limited(Described):
    """What may be limited: tenants, keys, providers and models."""

    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="Requests a minute.")] = None
    tokens_per_minute: Annotated[int | None, typer.Option(min=0, help="Tokens a minute, in and out.")] = None
    max_concurrent_requests: Annotated[
        int | None, typer.Option(min=0, help="Requests under way at the same time.")
    ] = None

    def write_limits(self, edit: Edit, field: str) -> None:
        """Sets the limits that were given, in a field of type RateLimits."""
        edit.set_in(
            field,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_concurrent_requests=self.max_concurrent_requests,
        )


@dataclass(frozen=True, kw_only=True)
class Budgeted(Limited):
    """What may have a budget and a choice of models: tenants and keys."""

    daily_budget: Annotated[str | None, typer.Option(metavar="USD", help="US dollars a day.")] = None
    monthly_budget: Annotated[str | None, typer.Option(metavar="USD", help="US dollars a month.")] = None
    time_zone: Annotated[
        str | None, typer.Option(help="IANA zone in which days and months of a budget begin.")
    ] = None
    alert_percentage: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=100, help="A share of a budget at which an alert is raised; may be repeated."
        ),
    ] = None
    allow_unpriced_models: Annotated[
        bool | None,
        typer.Option(
            "--allow-unpriced-models/--refuse-unpriced-models",
            help="Whether models without a price may be used although there is a budget.",
        ),
    ] = None
    allow_model: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="A model or route it may use, as `openai/*`; may be repeated."),
    ] = None

    def write_budget(self, edit: Edit) -> None:
        """Sets the budgets that were given."""
        values: dict[str, Any] = {
            "daily_nanos": None if self.daily_budget is None else nanos_of(self.daily_budget),
            "monthly_nanos": None if self.monthly_budget is None else nanos_of(self.monthly_budget),
        }
        edit.set_in(
            "budget",
            time_zone=self.time_zone,
            alert_percentages=self.alert_percentage,
            allow_unpriced_models=self.allow_unpriced_models,
            **values,
        )
