from __future__ import annotations

import logging
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from gateway_server.auth.keys import (
    Pepper,
    PepperError,
    Peppers,
    check_peppers,
    hash_secret,
    is_well_formed,
    load_or_create_pepper,
    load_peppers,
    new_secret,
    parse_peppers,
)
from tests.support.stores import fresh_store

PEPPER = Pepper(1, b"a pepper of the tests")


def test_a_secret_is_the_prefix_and_43_base64url_characters() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert re.fullmatch(r"sk-gw-[A-Za-z0-9_-]{43}", secret)
        assert is_well_formed(secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-gw-",
        "sk-gw-" + "a" * 42,
        "sk-gw-" + "a" * 44,
        "sk-gw-" + "a" * 42 + "=",
        "sk-gw-" + "a" * 42 + "\n",
        "sk-gw-" + "a" * 43 + "\n",
        "sk-GW-" + "a" * 43,
        "sk-gw-" + "é" * 43,
        "sk-gw-" + "\u0661" * 43,
    ],
)
def test_what_cannot_be_a_secret_is_told_by_its_form(text: str) -> None:
    assert not is_well_formed(text)


def test_the_hash_is_hmac_sha_256_under_the_pepper() -> None:
    secret = "sk-gw-" + "A" * 43
    # printf 'sk-gw-AAA...' | openssl dgst -sha256 -hmac 'a pepper of the tests'
    assert hash_secret(secret, PEPPER).hex() == (
        "2e581e559bf49b3769f79a466f65291a959dda0d0fca78422b195d59f91aa808"
    )
    assert hash_secret(secret, Pepper(1, b"another pepper of the tests")) != hash_secret(secret, PEPPER)


def test_what_is_kept_of_a_secret_does_not_give_it_away() -> None:
    secret = "sk-gw-abcd" + "x" * 35 + "wxyz"
    kept = Peppers(PEPPER).hashed(secret)
    assert (kept.prefix, kept.last4, kept.pepper_version) == ("sk-gw-abcd", "wxyz", 1)
    assert "x" * 20 not in repr(kept)


def test_a_pepper_never_shows_its_value() -> None:
    assert "pepper of" not in repr(Peppers(PEPPER))


def test_former_peppers_still_know_their_secrets() -> None:
    secret = new_secret()
    old = Peppers(Pepper(1, b"old old old old old"))
    both = Peppers(Pepper(2, b"new new new new new"), (old.current,))
    assert both.hashes(secret) == (both.hash(secret), old.hash(secret))
    assert both.hashed(secret).pepper_version == 2


def test_peppers_are_read_with_and_without_version() -> None:
    assert parse_peppers("0123456789abcdef") == Peppers(Pepper(1, b"0123456789abcdef"))
    assert parse_peppers("2:fedcba9876543210, 1:0123456789abcdef") == Peppers(
        Pepper(2, b"fedcba9876543210"), (Pepper(1, b"0123456789abcdef"),)
    )


@pytest.mark.parametrize("text", ["", "short", "1:short", "1:0123456789abcdef,1:fedcba9876543210"])
def test_a_pepper_that_is_short_or_ambiguous_is_refused(text: str) -> None:
    with pytest.raises(PepperError):
        parse_peppers(text)


def test_a_pepper_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    made = load_or_create_pepper(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_pepper(path) == made
    assert len(made.current.value) >= 32
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]


def test_processes_that_start_at_once_share_one_pepper(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        made = list(pool.map(load_or_create_pepper, [tmp_path / "pepper"] * 8))
    assert len({peppers.current.value for peppers in made}) == 1


def test_a_pepper_file_open_to_others_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pepper"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert load_or_create_pepper(path) == Peppers(Pepper(1, b"0123456789abcdef"))
    assert "0600" in caplog.text


def test_a_damaged_pepper_file_is_named_but_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_text("hunter2")
    with pytest.raises(PepperError, match="pepper: a pepper must have at least 16 bytes") as caught:
        load_or_create_pepper(path)
    assert "hunter2" not in str(caught.value)


async def test_the_setting_comes_before_the_file(tmp_path: Path) -> None:
    assert await load_peppers("0123456789abcdef", tmp_path / "pepper") == Peppers(
        Pepper(1, b"0123456789abcdef")
    )
    assert not (tmp_path / "pepper").exists()
    assert (await load_peppers("", tmp_path / "pepper")).current.version == 1


async def test_a_database_is_used_with_the_pepper_it_began_with(tmp_path: Path) -> None:
    old, new = Pepper(1, b"0123456789abcdef"), Pepper(2, b"fedcba9876543210")
    async with fresh_store("sqlite", tmp_path) as store:
        await check_peppers(store, Peppers(old))
        await check_peppers(store, Peppers(old))
        await check_peppers(store, Peppers(new, (old,)))
        with pytest.raises(PepperError, match=r"version 1"):
            await check_peppers(store, Peppers(Pepper(1, b"another one, made anew")))
