"""``ai-gateway chat``: asks a model and prints its answer as it comes."""

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import last_id
from gateway_server.cli.output import enum_of, printable, render_json
from gateway_server.cli.session import Session, fail, with_session

if TYPE_CHECKING:
    from aigateway import ChatOptions, ChatStream
    from aigateway.types import ChatCompletion, Message


@with_session
def chat(
    session: Session,
    prompt: Annotated[
        str | None,
        typer.Argument(help="What to ask; - reads it from standard input, as does a pipe without a prompt."),
    ] = None,
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="AIGW_MODEL", help="A route, provider/model, or model.")
    ],
    system: Annotated[str | None, typer.Option(help="Instructions that come before everything else.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1, help="The most tokens to write.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="Randomness.")] = None,
    reasoning: Annotated[
        str | None, typer.Option(help="How much to think: none, minimal, low, medium, high or max.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label on the usage record.")
    ] = None,
) -> None:
    """Asks a model and prints its answer as it comes; what it cost goes to standard error.

    Without a prompt, at a terminal, it is a conversation: Ctrl-C ends an answer, Ctrl-D the conversation.
    """
    from aigateway import system as system_turn
    from aigateway import user
    from gateway_server.cli.edit import parse_pairs

    options: dict[str, Any] = {
        "max_output_tokens": max_output_tokens,
        "temperature": temperature,
        "reasoning": reasoning,
        "labels": parse_pairs(label or ()),
    }
    if reasoning not in {None, "none", "minimal", "low", "medium", "high", "max"}:
        raise typer.BadParameter(f"{reasoning!r} is none of: none, minimal, low, medium, high, max")
    messages = [system_turn(system)] if system else []
    if prompt is None and sys.stdin.isatty():
        if session.as_json:
            fail("--json needs a prompt")
        _converse(session, model, messages, options)  # type: ignore[arg-type]
        return
    text = sys.stdin.read() if prompt in {None, "-"} else prompt
    if not text or not text.strip():
        fail("there is nothing to ask: give a prompt, or text on standard input")
    _answer(session, model, [*messages, user(text)], options)  # type: ignore[arg-type]


def _converse(session: Session, model: str, messages: "list[Message]", options: "ChatOptions") -> None:
    """Questions and answers until the end of input. A failed answer ends nothing."""
    from aigateway import GatewayError, user

    with suppress(ImportError):  # not on every platform
        import readline  # noqa: F401 -- makes input() editable
    while True:
        try:
            text = input("> ")
        except EOFError:
            print()
            return
        if not text.strip():
            continue
        messages.append(user(text))
        try:
            completion = _answer(session, model, messages, options)
        except KeyboardInterrupt:
            print("  (ended)", file=sys.stderr)
            messages.pop()
        except GatewayError as error:
            print(exit_codes.explain(error), file=sys.stderr)
            messages.pop()
        else:
            messages.append(completion.choices[0].message)


def _answer(
    session: Session, model: str, messages: "list[Message]", options: "ChatOptions"
) -> "ChatCompletion":
    """Prints one answer and what it cost, and returns it; cancels the call when interrupted."""
    began = time.monotonic()
    with session.client.chat.stream(model, messages, **options) as stream:
        if session.as_json:
            completion = stream.final_completion()
            print(render_json(completion))
            return completion
        first_at = _print_events(stream)
        completion = stream.completion
    now = time.monotonic()
    first = f" (first token {(first_at - began) * 1000:.0f} ms)" if first_at else ""
    print(f"{summarise(completion)} · {now - began:.2f} s{first}", file=sys.stderr)
    return completion


def _print_events(stream: "ChatStream") -> float | None:
    """Prints what comes; returns when the first of it came. The line is ended also when it breaks off."""
    writer = _Writer()
    first_at = None
    try:
        for event in stream:
            match event.WhichOneof("event"):
                case "part_start":
                    part = event.part_start.part
                    writer.begin(event.part_start.part_index, part.WhichOneof("kind") or "")
                    writer.write(part.text.text or part.refusal.text or part.reasoning.text)
                    if part.HasField("tool_call"):
                        writer.write(f"{part.tool_call.tool_name}({part.tool_call.arguments}")
                case "part_delta":
                    delta = event.part_delta
                    writer.resume(delta.part_index)
                    writer.write(delta.text or delta.reasoning_text or delta.arguments)
                case _:
                    continue
            first_at = first_at or time.monotonic()
    finally:
        writer.end()
    return first_at


class _Writer:
    """Prints the answer itself to standard output; what is beside it to standard error, in brackets."""

    def __init__(self) -> None:
        self._kinds: dict[int, str] = {}
        self._current: int | None = None
        self._raw = not sys.stdout.isatty()

    def begin(self, index: int, kind: str) -> None:
        self._kinds[index] = kind
        self.resume(index)

    def resume(self, index: int) -> None:
        """Goes on with a part: parallel tool calls grow side by side."""
        if index != self._current:
            self._close()
            self._current = index
            if self._aside():
                print(f"[{self._kinds[index].replace('_', ' ')}: ", end="", file=sys.stderr)

    def write(self, text: str) -> None:
        if self._aside():
            print(printable(text), end="", flush=True, file=sys.stderr)
        else:
            # As it is into a file or a pipe; to a terminal only what it shows.
            print(text if self._raw else printable(text), end="", flush=True)

    def end(self) -> None:
        self._close()
        if any(kind in {"text", "refusal"} for kind in self._kinds.values()):
            print(flush=True)

    def _aside(self) -> bool:
        return self._current is not None and self._kinds[self._current] not in {"text", "refusal"}

    def _close(self) -> None:
        if self._aside():
            call = self._current is not None and self._kinds[self._current] == "tool_call"
            print(")]" if call else "]", file=sys.stderr)
        self._current = None


def summarise(completion: "ChatCompletion") -> str:
    """Who answered, how it ended when not as usual, the tokens and the cost, in one line."""
    from aigateway.types import Finish, FinishReason

    served_by = completion.served_by
    pieces = [f"{last_id(served_by.provider)}/{served_by.provider_model}"]
    finish = completion.choices[0].finish if completion.choices else Finish()
    if finish.reason != FinishReason.FINISH_REASON_STOP:
        pieces.append(f"ended by {enum_of(finish, 'reason') or 'an unknown reason'}")
    usage = completion.usage
    reasoning = f" ({usage.reasoning_output_tokens} reasoning)" if usage.reasoning_output_tokens else ""
    pieces.append(f"{usage.input_tokens} in + {usage.output_tokens} out{reasoning} tokens")
    pieces.append(dollars_of(completion.cost.total_nanos) if completion.HasField("cost") else "no price")
    return printable(" · ".join(pieces))
