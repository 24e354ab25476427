"""``ai-gateway guardrails``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_server.cli.edit import parse_enums
from gateway_server.cli.names import guardrail_profile_name, short_name
from gateway_server.cli.options import Etag
from gateway_server.cli.output import enum_of, optional_of, print_table, printable, show, show_all
from gateway_server.cli.session import Session, fail, with_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.types import GuardrailResult, GuardrailRule

app = typer.Typer(
    help="Checks on what goes to models and comes from them. `ai-gateway apply` makes and changes profiles.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="PROFILE", help="Its id, or guardrailProfiles/ID.")]


@app.command("list")
@with_session
def list_profiles(session: Session) -> None:
    """Lists guardrail profiles, newest first."""
    show_all(
        session,
        session.client.admin.guardrail_profiles.list(),
        [
            ("PROFILE", lambda profile: short_name(profile.name)),
            ("INPUT", lambda profile: _rules_of(profile.input_rules)),
            ("OUTPUT", lambda profile: _rules_of(profile.output_rules)),
            ("NAME", lambda profile: profile.display_name),
        ],
    )


@app.command("get")
@with_session
def get_profile(session: Session, name: Name) -> None:
    """Shows one profile, as `ai-gateway apply` takes it in its list guardrail_profiles."""
    show(session, session.client.admin.guardrail_profiles.get(guardrail_profile_name(name)))


@app.command("delete")
@with_session
def delete_profile(session: Session, name: Name, etag: Etag = "") -> None:
    """Deletes a profile that no tenant and no key uses."""
    session.client.admin.guardrail_profiles.delete(guardrail_profile_name(name), etag=etag)
    session.tell_deleted(guardrail_profile_name(name))


@app.command("test")
@with_session
def try_profile(
    session: Session,
    name: Name,
    text: Annotated[str, typer.Argument(help="The text; - is standard input.")] = "-",
    *,
    output: Annotated[
        bool, typer.Option("--output", help="As if a model had written it, not the user.")
    ] = False,
    role: Annotated[
        str | None, typer.Option(help="Whose turn it is: system, developer, user, assistant or tool.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="What it is: text, reasoning, tool-call, tool-result, document, ...")
    ] = None,
) -> None:
    """Shows what a profile does to a text. Asks no model. Exits with 6 when it is stopped."""
    from aigateway.types import GuardrailStage, TestGuardrailProfileRequest
    from gateway_server.cli.exit_codes import REFUSED

    roles = parse_enums(TestGuardrailProfileRequest, "role", [role] if role else ())
    parts = parse_enums(TestGuardrailProfileRequest, "part", [part] if part else ())
    stage = GuardrailStage.GUARDRAIL_STAGE_OUTPUT if output else GuardrailStage.GUARDRAIL_STAGE_INPUT
    answer = session.client.admin.guardrail_profiles.test(
        guardrail_profile_name(name),
        sys.stdin.buffer.read().decode(errors="replace") if text == "-" else text,
        stage=stage,
        role=roles[0] if roles else 0,  # type: ignore[arg-type]
        part=parts[0] if parts else 0,  # type: ignore[arg-type]
    )
    if session.as_json:
        show(session, answer)
    else:
        print_table(["RULE", "DID", "FOUND", "SCORE", "TOOK"], [_row_of(result) for result in answer.results])
        print("stopped" if answer.blocked else "passed on", file=sys.stderr)
        print(printable(answer.text))
    if answer.blocked:
        raise typer.Exit(REFUSED)


@app.command("score")
def score(
    source: Annotated[
        Path, typer.Option("--input", help='A line of {"text": "..."} for each text; - is standard input.')
    ],
    target: Annotated[
        Path, typer.Option("--output", help="Where a line of scores goes for each; - is standard output.")
    ],
    processes: Annotated[
        int, typer.Option(min=0, help="How many processes work.", show_default="one for each CPU")
    ] = 0,
    ner_model: Annotated[
        str, typer.Option(help="spaCy model that finds persons and places too, by its name or folder.")
    ] = "",
) -> None:
    """Scores texts by the models and recognizers that come with the gateway; needs none to run."""
    from gateway_server.guardrails.scoring import score_lines

    is_input, is_output = str(source) == "-", str(target) == "-"
    count = 0
    try:
        if not is_input and not is_output and target.is_file() and target.samefile(source):
            fail(f"{source} and {target} are the same file")
        with (
            sys.stdin.buffer if is_input else source.open("rb") as lines,
            sys.stdout if is_output else target.open("w", encoding="utf-8") as scores,
        ):
            texts = (line for line in lines if line.strip())
            for scored in score_lines(texts, processes=processes, ner_model=ner_model):
                scores.write(scored + "\n")
                count += 1
    except ValueError as error:
        fail(f"text {count + 1} or one of the next: {error}")
    except OSError as error:
        fail(str(error))


def _rules_of(rules: "Sequence[GuardrailRule]") -> str:
    return ", ".join(f"{rule.rule_id} {enum_of(rule, 'action')}" for rule in rules) or "none"


def _row_of(result: "GuardrailResult") -> list[str]:
    found = [f"{kind}={count}" for kind, count in sorted(result.findings.items())]
    found += [f"unread {part}={count}" for part, count in sorted(result.unread_parts.items())]
    return [
        result.rule,
        enum_of(result, "action"),
        ", ".join(found),
        optional_of(result, "score", lambda score: f"{score:.3f}"),
        f"{result.latency.ToNanoseconds() / 1e6:.2f} ms",
    ]
