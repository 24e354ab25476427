"""Master keys: what is one, which opens what, and how a gateway comes by its own."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import pytest

from gateway_server.storage.sealing import MasterKeyError, MasterKeys, SealedSecret, UnsealError, parse_keys

KEY = bytes(range(224, 256))  # has both characters in which the alphabets of base64 differ
TEXT = base64.b64encode(KEY).decode()
OTHER = base64.b64encode(b"x" * 32).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(KEY).decode(),
        f"  {TEXT}\n",
    ],
)
def test_a_key_in_either_alphabet_padded_or_not(text: str) -> None:
    assert list(parse_keys(text)) == list(parse_keys(TEXT))


@pytest.mark.parametrize("separator", [",", ", ", "\n", " "])
def test_the_first_of_several_keys_seals(separator: str) -> None:
    both = MasterKeys(f"{OTHER}{separator}{TEXT}")
    sealed = MasterKeys(TEXT).seal("s", "p")
    assert both.open(sealed, "p") == "s"
    assert both.seal("s", "p").key_id == MasterKeys(OTHER).current_id == both.current_id


@pytest.mark.parametrize(
    "text",
    ["short", TEXT[:-5], TEXT + "AAAA", f"{TEXT},", "not base64 at all!", f"{TEXT},{TEXT}", ","],
)
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    if text == f"{TEXT},":
        assert len(parse_keys(text)) == 1  # a comma at the end is no key
        return
    with pytest.raises(MasterKeyError) as caught:
        parse_keys(text)
    assert text not in str(caught.value)


def test_a_secret_is_sealed_differently_each_time_and_opens_for_its_place_alone() -> None:
    keys = MasterKeys(TEXT)
    one, two = keys.seal("geheim \N{KEY}", "here"), keys.seal("geheim \N{KEY}", "here")
    assert one.envelope != two.envelope
    assert keys.open(one, "here") == keys.open(two, "here") == "geheim \N{KEY}"
    with pytest.raises(UnsealError):
        keys.open(one, "there")
    assert "geheim" not in repr(one) + repr(keys)
    assert repr(one.envelope) not in repr(one)


def test_every_byte_of_an_envelope_counts() -> None:
    keys = MasterKeys(TEXT)
    sealed = keys.seal("s", "p")
    for place in range(len(sealed.envelope)):
        changed = bytearray(sealed.envelope)
        changed[place] ^= 1
        with pytest.raises(UnsealError):
            keys.open(SealedSecret(sealed.key_id, bytes(changed)), "p")
    for end in range(len(sealed.envelope)):
        with pytest.raises(UnsealError):
            keys.open(SealedSecret(sealed.key_id, sealed.envelope[:end]), "p")


def test_a_key_that_is_not_there_is_named_by_its_id() -> None:
    sealed = MasterKeys(OTHER).seal("s", "p")
    with pytest.raises(UnsealError, match=sealed.key_id):
        MasterKeys(TEXT).open(sealed, "p")


def test_a_gateway_makes_its_own_key_when_it_first_needs_one(tmp_path: Path) -> None:
    file = tmp_path / "master-key"
    keys = MasterKeys(file=file, make_file=True)
    assert keys.current_id == ""
    assert not file.exists()
    keys.prepare()
    assert file.stat().st_mode & 0o777 == 0o600
    sealed = keys.seal("s", "p")
    assert MasterKeys(file=file, make_file=True).open(sealed, "p") == "s"


def test_processes_that_need_a_key_at_once_make_one(tmp_path: Path) -> None:
    file = tmp_path / "master-key"
    keys = [MasterKeys(file=file, make_file=True) for _ in range(8)]
    threads = [threading.Thread(target=one.prepare) for one in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.current_id for one in keys}) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_that_was_added_to_the_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(TEXT)
    file.chmod(0o600)
    keys = MasterKeys(file=file)
    sealed = MasterKeys(OTHER).seal("s", "p")
    with pytest.raises(UnsealError):
        keys.open(sealed, "p")
    file.write_text(f"{OTHER}\n{TEXT}\n")
    assert keys.open(sealed, "p") == "s"
    file.write_text("broken")
    with pytest.raises(UnsealError, match="32 bytes in base64"):
        keys.open(SealedSecret("0" * 16, b""), "p")
    assert keys.open(sealed, "p") == "s"


def test_a_file_that_is_named_must_be_there_and_hold_a_key(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match="there is no such file"):
        MasterKeys(file=tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(MasterKeyError, match="cannot be read"):
        MasterKeys(file=tmp_path / "binary")
    with pytest.raises(MasterKeyError, match="cannot be made"):
        MasterKeys(file=tmp_path / "no" / "folder", make_file=True).prepare()
    with pytest.raises(MasterKeyError, match="no master key"):
        MasterKeys().prepare()


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    file.write_text(TEXT)
    file.chmod(0o644)
    MasterKeys(file=file)
    assert "should have mode 0600" in caplog.text
    assert TEXT not in caplog.text
