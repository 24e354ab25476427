"""``ai-gateway embed``."""

import sys
from typing import Annotated

import typer

from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import last_id
from gateway_server.cli.output import print_table, printable, render_json
from gateway_server.cli.session import Session, fail, with_session


@with_session
def embed(
    session: Session,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to embed; without any, the lines of standard input.")
    ] = None,
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="AIGW_MODEL", help="A route, provider/model, or model.")
    ],
    dimensions: Annotated[int | None, typer.Option(min=1, help="Length of the vectors.")] = None,
) -> None:
    """Embeds texts. The vectors themselves are in the output of --json."""
    texts = texts or [line for line in sys.stdin.read().splitlines() if line.strip()]
    if not texts:
        fail("there is nothing to embed: give texts, or lines on standard input")
    response = session.client.embeddings.create(model, texts, dimensions=dimensions)
    if session.as_json:
        print(render_json(response))
        return
    print_table(
        ["INDEX", "LENGTH", "BEGINS WITH", "TEXT"],
        (
            [
                str(embedding.index),
                str(len(embedding.float_vector.values)),
                " ".join(f"{value:.4f}" for value in embedding.float_vector.values[:4]),
                texts[embedding.index],
            ]
            for embedding in response.embeddings
        ),
    )
    cost = dollars_of(response.cost.total_nanos) if response.HasField("cost") else "no price"
    served_by = f"{last_id(response.served_by.provider)}/{response.served_by.provider_model}"
    print(f"{printable(served_by)} · {response.usage.input_tokens} tokens · {cost}", file=sys.stderr)
