"""Tokens that a program prints are found, with their end, and a program that fails is told."""

import sys
from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import orjson
import pytest

from gateway_server.providers.kept_fresh import SecretUnavailableError
from gateway_server.providers.tokens import read_token, run_token_command

NOW = 1_800_000_000.0
DATE = datetime.fromtimestamp(NOW + 50, UTC).isoformat()


def jwt(claims: object) -> str:
    parts = [orjson.dumps({"alg": "RS256"}), orjson.dumps(claims), b"signature"]
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.mark.parametrize(
    ("output", "token", "expires_at"),
    [
        (b"abc\n", "abc", None),
        (jwt({"exp": NOW + 60}).encode(), jwt({"exp": NOW + 60}), NOW + 60),
        (jwt({"exp": "soon"}).encode(), jwt({"exp": "soon"}), None),
        (jwt(["exp"]).encode(), jwt(["exp"]), None),
        (b"a.!.c", "a.!.c", None),
        # The Azure command line, its developer sibling, OAuth, Kubernetes.
        (b'{"accessToken": "abc", "expires_on": 1800000100}', "abc", NOW + 100),
        (b'{"token": "abc", "expiresOn": "%s"}' % DATE.encode(), "abc", NOW + 50),
        (b'{"access_token": "abc", "expires_in": "20"}', "abc", NOW + 20),
        # The local time of some other program is not guessed at; a token that tells its own end is believed.
        (b'{"accessToken": "abc", "expiresOn": "2027-01-15 08:00:00.000000"}', "abc", None),
        (
            orjson.dumps({"accessToken": jwt({"exp": NOW + 9}), "expiresOn": "nonsense"}),
            jwt({"exp": NOW + 9}),
            NOW + 9,
        ),
        (b'{"token": "abc", "expires_in": true, "expires_on": -5}', "abc", None),
        (b'{"token": "abc", "expires_on": "%s"}' % (b"9" * 5000), "abc", None),
    ],
)
def test_a_token_and_its_end(output: bytes, token: str, expires_at: float | None) -> None:
    lease = read_token(output, now=NOW)

    assert lease is not None
    assert (lease.secret, lease.expires_at) == (token, expires_at)
    # One whose end is not known is asked for again now and then.
    assert lease.refresh_at == (NOW + 300 if expires_at is None else None)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\n",
        b"two words",
        b"a\nb",
        b"\xff",
        b"{",
        b"{}",
        b'{"token": 5}',
        b'{"token": ""}',
        "ключ".encode(),
    ],
)
def test_what_is_no_token(output: bytes) -> None:
    assert read_token(output, now=NOW) is None


def command(monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    monkeypatch.setenv("MY_TOKEN_COMMAND", f"{sys.executable} -c '{code}'")
    return "MY_TOKEN_COMMAND"


def test_a_command_is_run_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'import sys; print(sys.argv[1:] == ["$HOME", ";", "ls"])'
    monkeypatch.setenv("MY_TOKEN_COMMAND", f"{sys.executable} -c '{code}' $HOME ';' ls")

    assert run_token_command("MY_TOKEN_COMMAND").secret == "True"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("", "holds no command"),
        ("'unfinished", "is not a command line"),
        ("/no/such/program", "cannot be started"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "ended with status 3"),
        (f"{sys.executable} -c pass", "printed no token"),
        (f"{sys.executable} -c 'print(chr(0x416))'", "printed no token"),
    ],
)
def test_a_command_that_fails_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, line: str, cause: str
) -> None:
    monkeypatch.setenv("MY_TOKEN_COMMAND", line)

    with pytest.raises(SecretUnavailableError) as caught:
        run_token_command("MY_TOKEN_COMMAND")

    assert cause in caught.value.cause
    assert "MY_TOKEN_COMMAND" in caught.value.cause


def test_what_a_failing_command_says_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    variable = command(monkeypatch, 'import sys; print("sk-secret"); sys.exit("sk-secret")')

    with pytest.raises(SecretUnavailableError) as caught:
        run_token_command(variable)

    assert "sk-secret" not in caught.value.cause + caplog.text
