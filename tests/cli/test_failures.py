"""How failures end: an exit code, a message that helps, no traceback, no secret."""

import pytest

from aigateway import errors
from gateway_server.cli.exit_codes import _ADVICE, EXIT_CODES, exit_code_of, explain
from tests.cli.conftest import Run

SECRET = "sk-gw-" + "s" * 43
AS_STRANGER = {"AIGW_API_KEY": SECRET}
NOBODY = {"AIGW_TARGET": "127.0.0.1:1"}

CASES: list[tuple[list[str], dict[str, str], int, str]] = [
    (["tenants", "list"], AS_STRANGER, 3, "API_KEY_INVALID"),
    (["tenants", "list"], {"AIGW_API_KEY": ""}, 3, "set AIGW_API_KEY or give --api-key"),
    (["chat", "-m", "nope", "Hi"], {}, 4, "`ai-gateway models list` shows what there is"),
    (["providers", "get", "nope"], {}, 4, "RESOURCE_NOT_FOUND"),
    (["chat", "-m", "demo/demo-chat", "Hi"], NOBODY, 5, "is it running (`ai-gateway serve`)?"),
    (["chat", "-m", "demo/demo-slow", "Hi", "--timeout", "0.05"], {}, 5, "DEADLINE_EXCEEDED"),
    (["chat", "-m", "demo/demo-chat", "/fail 429"], {}, 1, "UPSTREAM_RATE_LIMITED"),
    (["tenants", "create", "default"], {}, 7, "RESOURCE_ALREADY_EXISTS"),
    (["tenants", "create", "Bad_Id"], {}, 2, "INVALID_REQUEST"),
    (["tenants", "get", "a/b"], {}, 2, "'a/b' is not TENANT or a full name"),
    (["keys", "get", "lonely"], {}, 2, "'lonely' is not TENANT/APIKEY or a full name"),
    (["tenants", "update", "default"], {}, 2, "name at least one field to change"),
    (["tenants", "update", "default", "--clear", "nope"], {}, 2, "nope: no such field of Tenant"),
    (["tenants", "update", "default", "--state", "asleep"], {}, 2, "none of: active, suspended"),
    (["tenants", "create", "x", "--daily-budget", "much"], {}, 2, "'much' is not an amount"),
    (["tenants", "create", "x", "--label", "nolabel"], {}, 2, "'nolabel' is not key=value"),
    (["keys", "rotate", "a/b", "--grace-period", "soon"], {}, 2, "'soon' is not a time"),
    (["usage", "records", "--since", "yesterday"], {}, 2, "neither an ISO date or time nor a span"),
    (["usage", "records", "--filter", "nonsense ~ 1"], {}, 2, "INVALID_REQUEST"),
    (["chat", "-m", "demo/demo-chat", "Hi", "--reasoning", "wild"], {}, 2, "'wild' is none of"),
    (["chat", "Hi"], {}, 2, "--model"),
    (["tenants", "list"], {"AIGW_TARGET": "https://gateway:1"}, 2, "the target is host:port, not a URL"),
    (["tenants", "list", "--ca-file", "absent.pem"], {}, 2, "absent.pem"),
    (["tenants", "list"], {"AIGW_API_KEY": "sk gw"}, 2, "characters that no key has"),
]


@pytest.mark.parametrize(("args", "env", "code", "message"), CASES, ids=[" ".join(c[0]) for c in CASES])
async def test_a_failure_has_a_code_and_helps(
    run: Run, args: list[str], env: dict[str, str], code: int, message: str
) -> None:
    ran = await run(*args, env=env)

    assert ran.code == code
    told = " ".join(ran.err.replace("│", " ").split())
    assert " ".join(message.split()) in told
    assert "Traceback" not in ran.err
    assert SECRET not in ran.out + ran.err
    assert ran.out == ""


async def test_a_credential_is_not_taken_from_an_empty_input(run: Run) -> None:
    ran = await run("providers", "create", "x", "--type", "demo", "--credential-stdin", stdin="\n")

    assert ran.code == 2
    assert "holds no credential" in ran.err


async def test_a_request_id_is_told(run: Run) -> None:
    ran = await run("tenants", "get", "nope")

    assert "\n  request: 01" in ran.err


def test_every_class_of_errors_has_an_exit_code_that_is_documented() -> None:
    families = {*errors._BY_REASON.values(), *errors._BY_CODE.values(), errors.GatewayError}

    codes = {exit_code_of(family("it failed")) for family in families}

    assert codes == {1, 2, 3, 4, 5, 6, 7}
    assert codes | {0, 130} == set(EXIT_CODES)


def test_advice_is_for_reasons_of_the_contract() -> None:
    assert _ADVICE.keys() <= errors._BY_REASON.keys()


def test_an_explanation_holds_violations_advice_and_request() -> None:
    error = errors.PermissionDeniedError(
        "the key lacks a scope",
        reason="SCOPE_MISSING",
        metadata={"scopes": "SCOPE_ADMIN_READ"},
        request_id="r1",
        violations=(errors.FieldViolation("name", "is bad"),),
    )
    limited = errors.RateLimitError("too fast", reason="RATE_LIMIT_EXCEEDED", retry_after=2.5)

    assert explain(error) == (
        "error: SCOPE_MISSING: the key lacks a scope\n"
        "  name: is bad\n"
        "  what to do: use a key that has one of the scopes SCOPE_ADMIN_READ\n"
        "  request: r1"
    )
    assert explain(limited).endswith("\n  what to do: try again in 2.5 s")


def test_plain_text_to_another_machine_is_named_as_the_likely_fault() -> None:
    error = errors.UnavailableError("no gateway answers at g:1: Ssl handshake failed")

    assert "--insecure" in explain(error)
