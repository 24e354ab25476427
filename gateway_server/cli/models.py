"""``ai-gateway models``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway_server.cli.edit import Edit, parse_enums
from gateway_server.cli.money import dollars_of, nanos_of
from gateway_server.cli.names import last_id, model_name, provider_name, provider_parent, short_name
from gateway_server.cli.options import Clear, Etag, Limited
from gateway_server.cli.output import enums_of, optional_of, show, show_all
from gateway_server.cli.session import Session, with_session

if TYPE_CHECKING:
    from aigateway.types import Model

app = typer.Typer(help="Models of providers, their prices and what they can do.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="PROVIDER/MODEL", help="Its ids, or providers/PROVIDER/models/MODEL.")
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Limited):
    """The fields of a model."""

    provider_model: Annotated[
        str | None, typer.Option(help="The provider's own name for it.", show_default="its id")
    ] = None
    capability: Annotated[
        list[str] | None,
        typer.Option(help="What it can do: chat, embeddings, tools, ...; may be repeated."),
    ] = None
    input_modality: Annotated[
        list[str] | None, typer.Option(help="What it reads: text, image, ...; may be repeated.")
    ] = None
    output_modality: Annotated[
        list[str] | None, typer.Option(help="What it writes: text, image, ...; may be repeated.")
    ] = None
    context_window_tokens: Annotated[
        int | None, typer.Option(min=0, help="Tokens it can read and write together.")
    ] = None
    max_output_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens it can write.")] = None
    input_price: Annotated[
        str | None, typer.Option(metavar="USD", help="US dollars for a million tokens of input.")
    ] = None
    output_price: Annotated[
        str | None, typer.Option(metavar="USD", help="US dollars for a million tokens of output.")
    ] = None
    cache_read_price: Annotated[
        str | None, typer.Option(metavar="USD", help="The same for input from a cache.")
    ] = None
    cache_write_price: Annotated[
        str | None, typer.Option(metavar="USD", help="The same for input written to a cache.")
    ] = None
    quality_score: Annotated[
        float | None, typer.Option(min=0, max=100, help="How good its answers are, by your own measure.")
    ] = None
    disabled: Annotated[
        bool | None, typer.Option("--disabled/--enabled", help="Whether the router leaves it alone.")
    ] = None

    def write(self, edit: Edit) -> None:
        """Sets the fields that were given."""
        from aigateway.types import Model

        super().write(edit)
        self.write_limits(edit, "rate_limits")
        edit.set(
            provider_model=self.provider_model,
            capabilities=parse_enums(Model, "capabilities", self.capability or ()),
            input_modalities=parse_enums(Model, "input_modalities", self.input_modality or ()),
            output_modalities=parse_enums(Model, "output_modalities", self.output_modality or ()),
            context_window_tokens=self.context_window_tokens,
            max_output_tokens=self.max_output_tokens,
            quality_score=self.quality_score,
            disabled=self.disabled,
        )
        prices: dict[str, Any] = {
            "input_nanos_per_million": self.input_price,
            "output_nanos_per_million": self.output_price,
            "cache_read_nanos_per_million": self.cache_read_price,
            "cache_write_nanos_per_million": self.cache_write_price,
        }
        edit.set_in(
            "price", **{name: None if price is None else nanos_of(price) for name, price in prices.items()}
        )


@app.command("list")
@with_session
def list_models(
    session: Session,
    provider: Annotated[str, typer.Argument(help="Only this provider's.", show_default="all")] = "-",
) -> None:
    """Lists models, newest first. Prices are for a million tokens."""
    show_all(
        session,
        session.client.admin.models.list(provider_parent(provider)),
        [
            ("MODEL", lambda model: short_name(model.name)),
            ("CAPABILITIES", lambda model: ", ".join(enums_of(model, "capabilities"))),
            ("CONTEXT", lambda model: str(model.context_window_tokens or "")),
            ("INPUT", lambda model: _price(model, "input_nanos_per_million")),
            ("OUTPUT", lambda model: _price(model, "output_nanos_per_million")),
            ("QUALITY", lambda model: optional_of(model, "quality_score")),
            ("STATE", lambda model: "disabled" if model.disabled else "enabled"),
        ],
    )


@app.command("get")
@with_session
def get_model(session: Session, name: Name) -> None:
    """Shows one model."""
    show(session, session.client.admin.models.get(model_name(name)))


@app.command("create")
@with_session
def create_model(session: Session, name: Name, options: ModelOptions) -> None:
    """Adds a model to a provider."""
    from aigateway.types import Model

    model = Model()
    options.write(Edit(model))
    parent = provider_name(model_name(name).split("/")[1])
    show(session, session.client.admin.models.create(parent, model, model_id=last_id(model_name(name))))


@app.command("update")
@with_session
def update_model(session: Session, name: Name, options: ModelOptions, clear: Clear = None) -> None:
    """Changes what is given and leaves the rest. Lists and labels are replaced as a whole."""
    model = session.client.admin.models.get(model_name(name))
    edit = Edit(model).clear(clear or ())
    options.write(edit)
    show(session, session.client.admin.models.update(model, update_mask=edit.mask_or_fail()))


@app.command("delete")
@with_session
def delete_model(session: Session, name: Name, etag: Etag = "") -> None:
    """Deletes a model."""
    session.client.admin.models.delete(model_name(name), etag=etag)
    session.tell_deleted(model_name(name))


def _price(model: "Model", field: str) -> str:
    return dollars_of(getattr(model.price, field)) if model.HasField("price") else ""
