"""What commands that talk to a gateway have in common: options, the client, and how failures end."""

import inspect
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from gateway_server.cli import exit_codes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aigateway import Client

_PANEL: Final = "Connection"


@dataclass(frozen=True, kw_only=True)
class Session:
    """The options that every command which talks to a gateway has, and the client made from them."""

    target: Annotated[
        str | None,
        typer.Option(
            envvar="AIGW_TARGET",
            help="host:port of the gateway.",
            show_default="localhost:50051",
            rich_help_panel=_PANEL,
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="AIGW_API_KEY",
            help="The key to call with. Others can read a command line: better in the variable.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="AIGW_CA_FILE",
            help="PEM file of the CA to trust, in place of the public ones.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            envvar="AIGW_INSECURE",
            help="Plain text also to another machine. The key travels readable.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds that a call may take.", show_default="300", rich_help_panel=_PANEL, min=0.001
        ),
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print protobuf JSON: one object, or one array.")
    ] = False

    @cached_property
    def client(self) -> "Client":
        """The client, connected by its first call."""
        from aigateway import Client, Tls
        from aigateway.channel import DEFAULT_TIMEOUT

        try:
            return Client(
                self.target,
                api_key=self.api_key,
                tls=Tls(ca_file=self.ca_file) if self.ca_file else None,
                insecure=self.insecure,
                timeout=self.timeout or DEFAULT_TIMEOUT,
            )
        except (ValueError, OSError) as error:
            fail(str(error))

    def tell_deleted(self, name: str) -> None:
        """Says that a resource is gone."""
        print("{}" if self.as_json else f"deleted {name}")

    def close(self) -> None:
        """Closes the client, if there is one."""
        if "client" in self.__dict__:
            self.client.close()


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the shared options, as a Session in the place of its first parameter.

    A parameter whose type is a dataclass becomes one option for each of its fields.
    """
    own = list(inspect.signature(function).parameters.values())[1:]
    groups: dict[str, Any] = {p.name: p.annotation for p in own if is_dataclass(p.annotation)}
    options = [*(option for parameter in own for option in _options_of(parameter)), *_options_of(_SESSION)]

    def run(**values: Any) -> None:  # noqa: ANN401 -- whatever types the options have
        def take(group: type[Any]) -> Any:  # noqa: ANN401 -- an instance of the group
            return group(**{field.name: values.pop(field.name) for field in fields(group)})

        session: Session = take(Session)
        with reported_failures():
            try:
                function(session, **{name: take(group) for name, group in groups.items()}, **values)
            finally:
                session.close()

    # What Typer reads to find out about a command.
    run.__doc__, run.__name__ = function.__doc__, function.__name__
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


_SESSION: Final = inspect.Parameter("session", inspect.Parameter.KEYWORD_ONLY, annotation=Session)


def _options_of(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """The parameter, or the fields of its dataclass, as keyword-only parameters."""
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    if not is_dataclass(parameter.annotation):
        return [parameter.replace(kind=keyword_only)]
    return [
        inspect.Parameter(field.name, keyword_only, default=field.default, annotation=field.type)
        for field in fields(parameter.annotation)
    ]


@contextmanager
def reported_failures() -> "Iterator[None]":
    """Ends the process with a message and an exit code when a call fails or Ctrl-C is pressed."""
    from aigateway import GatewayError

    try:
        yield
    except GatewayError as error:
        print(exit_codes.explain(error), file=sys.stderr)
        raise typer.Exit(exit_codes.exit_code_of(error)) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(exit_codes.INTERRUPTED) from None


def fail(message: str, *, code: int = exit_codes.USAGE) -> NoReturn:
    """Ends the process with a message of one line."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)
