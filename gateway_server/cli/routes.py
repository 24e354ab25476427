"""``ai-gateway routes``."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway_server.cli.edit import Edit, parse_enums
from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import last_id, model_name, route_name, short_name
from gateway_server.cli.options import Clear, Described, Etag
from gateway_server.cli.output import (
    enum_of,
    milliseconds_of,
    optional_of,
    print_table,
    printable,
    show,
    show_all,
    time_of,
)
from gateway_server.cli.session import Session, with_session

if TYPE_CHECKING:
    from aigateway.types import Route, RouteCandidate

app = typer.Typer(help="Names that stand for several models, and how to choose.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="ROUTE", help="Its id, or routes/ID.")]


@dataclass(frozen=True, kw_only=True)
class RouteOptions(Described):
    """The fields of a route."""

    strategy: Annotated[
        str | None,
        typer.Option(
            help="cost-optimized, quality-first, balanced, priority, weighted, round-robin, least-latency or "
            "least-busy.",
            show_default="priority",
        ),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROVIDER/MODEL[=WEIGHT]",
            help="A model that it may use, in order; may be repeated.",
            show_default="every enabled model",
        ),
    ] = None
    quality_weight: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="For balanced: 0 looks at the cost alone, 1 at the quality alone."),
    ] = None
    max_attempts: Annotated[
        int | None, typer.Option(min=0, max=10, help="Tries at one target, the first included.")
    ] = None
    attempt_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="The longest that one try may take.")
    ] = None
    first_token_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="The longest until a stream's first content.")
    ] = None
    max_targets: Annotated[int | None, typer.Option(min=0, help="Targets to try at the most.")] = None
    fallback: Annotated[
        bool | None, typer.Option("--fallback/--no-fallback", help="Whether it goes on to other targets.")
    ] = None

    def write(self, edit: Edit) -> None:
        """Sets the fields that were given."""
        from aigateway.types import Route

        super().write(edit)
        strategies = parse_enums(Route, "strategy", [self.strategy] if self.strategy else ())
        edit.set(
            strategy=strategies[0] if strategies else None,
            targets=[_target_of(text) for text in self.model or ()],
            quality_weight=self.quality_weight,
        )
        edit.set_in(
            "retry_policy",
            max_attempts=self.max_attempts,
            attempt_timeout=_duration_of(self.attempt_timeout),
            first_token_timeout=_duration_of(self.first_token_timeout),
        )
        edit.set_in(
            "fallback_policy",
            max_targets=self.max_targets,
            disabled=None if self.fallback is None else not self.fallback,
        )


@app.command("list")
@with_session
def list_routes(session: Session) -> None:
    """Lists routes, newest first."""
    show_all(
        session,
        session.client.admin.routes.list(),
        [
            ("ROUTE", lambda route: short_name(route.name)),
            ("STRATEGY", lambda route: enum_of(route, "strategy") or "priority"),
            ("TARGETS", _targets_of),
            ("NAME", lambda route: route.display_name),
        ],
    )


@app.command("get")
@with_session
def get_route(session: Session, name: Name) -> None:
    """Shows one route."""
    show(session, session.client.admin.routes.get(route_name(name)))


@app.command("create")
@with_session
def create_route(session: Session, name: Name, options: RouteOptions) -> None:
    """Creates a route."""
    from aigateway.types import Route

    route = Route()
    options.write(Edit(route))
    show(session, session.client.admin.routes.create(route, route_id=last_id(route_name(name))))


@app.command("update")
@with_session
def update_route(session: Session, name: Name, options: RouteOptions, clear: Clear = None) -> None:
    """Changes what is given and leaves the rest. The list of targets is replaced as a whole."""
    route = session.client.admin.routes.get(route_name(name))
    edit = Edit(route).clear(clear or ())
    options.write(edit)
    show(session, session.client.admin.routes.update(route, update_mask=edit.mask_or_fail()))


@app.command("delete")
@with_session
def delete_route(session: Session, name: Name, etag: Etag = "") -> None:
    """Deletes a route that is no tenant's default."""
    session.client.admin.routes.delete(route_name(name), etag=etag)
    session.tell_deleted(route_name(name))


@app.command("explain")
@with_session
def explain_route(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="A route, provider/model, or model; as in a request.")
    ],
    text: Annotated[str, typer.Argument(help="What would be asked.")] = "Hello",
    max_output_tokens: Annotated[int | None, typer.Option(min=1, help="The most tokens to write.")] = None,
) -> None:
    """Shows who would be asked for a text, in order, at what cost, and why others would not. Asks nobody."""
    options: dict[str, Any] = {}
    if max_output_tokens is not None:
        options["max_output_tokens"] = max_output_tokens
    answer = session.client.chat.explain_route(name, text, **options)
    if session.as_json:
        show(session, answer)
        return
    what = f"{answer.route}, " if answer.route else ""
    print(printable(f"{what}{enum_of(answer, 'strategy') or 'priority'}, {answer.input_tokens} input tokens"))
    headings = ["#", "MODEL", "EXPECTED", "AT MOST", "QUALITY", "SCORE", "FIRST TOKEN", "LATENCY", "ERRORS"]
    print_table([*headings, "DROPPED"], [_row_of(candidate) for candidate in answer.candidates])


@app.command("targets")
@with_session
def list_targets(session: Session) -> None:
    """Lists how the models that calls went to are doing, as the gateway that answers has seen it."""
    show_all(
        session,
        session.client.admin.routes.list_target_states(),
        [
            ("MODEL", lambda state: short_name(state.model)),
            ("BREAKER", lambda state: enum_of(state, "breaker_state")),
            ("LEFT ALONE UNTIL (UTC)", lambda state: time_of(state, "cooldown_end_time")),
            ("WHY", lambda state: state.cooldown_reason),
            ("ERRORS", lambda state: optional_of(state, "error_rate", _percent)),
            ("UNDER WAY", lambda state: str(state.requests_in_flight)),
            ("FIRST TOKEN", lambda state: _in_ms(milliseconds_of(state, "time_to_first_token"))),
            ("LATENCY", lambda state: _in_ms(milliseconds_of(state, "latency"))),
            ("SHARE", lambda state: _percent(state.traffic_share)),
        ],
    )


def _row_of(candidate: "RouteCandidate") -> list[str]:
    dropped = enum_of(candidate, "exclusion")
    return [
        str(candidate.rank or ""),
        short_name(candidate.model),
        optional_of(candidate, "estimated_cost_nanos", _dollars),
        optional_of(candidate, "maximum_cost_nanos", _dollars),
        optional_of(candidate, "quality_score", _number),
        optional_of(candidate, "strategy_score", _number),
        _in_ms(milliseconds_of(candidate, "time_to_first_token")),
        _in_ms(milliseconds_of(candidate, "latency")),
        optional_of(candidate, "error_rate", _percent),
        f"{dropped}: {candidate.exclusion_detail}" if dropped else "",
    ]


def _targets_of(route: "Route") -> str:
    if not route.targets:
        return "every enabled model"
    return ", ".join(
        short_name(target.model) + (f"={target.weight}" if target.weight else "") for target in route.targets
    )


def _target_of(text: str) -> Any:  # noqa: ANN401 -- a message, imported when it is needed
    from aigateway.types import RouteTarget

    name, _, weight = text.partition("=")
    if weight and not weight.isdecimal():
        raise typer.BadParameter(f"{text!r}: the weight must be a whole number")
    return RouteTarget(model=model_name(name), weight=int(weight or 0))


def _duration_of(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _dollars(nanos: int) -> str:
    return dollars_of(nanos)


def _number(value: float) -> str:
    return f"{value:g}"


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _in_ms(milliseconds: str) -> str:
    return f"{milliseconds} ms" if milliseconds else ""
