"""What was appended is there after a crash, in order; what is torn hides nothing that came before it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.usage.journal import DeadJournal, Journal, JournalError, journal_folders


def new_journal(root: Path, *, gateway_id: str = "g1", segment_bytes: int = 2**20) -> Journal:
    return Journal.open(root, gateway_id, store_id="s", segment_bytes=segment_bytes)


def die(journal: Journal) -> None:
    """Ends it as a killed process does: nothing is closed in order, the lock is gone."""
    os.close(journal._file)
    os.close(journal._lock)


def entries_of_dead(root: Path) -> list[tuple[int, bytes]]:
    found = []
    for journal in dead_journals(root):
        try:
            found += list(journal.entries())
        finally:
            journal.close(delete=False)
    return found


def dead_journals(root: Path) -> list[DeadJournal]:
    taken = [DeadJournal.take(folder) for folder in journal_folders(root)]
    return [journal for journal in taken if journal is not None]


def test_a_dead_journal_gives_what_was_appended(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    positions = [journal.append(f"entry {number}".encode()) for number in range(5)]
    assert entries_of_dead(tmp_path) == []  # it lives
    die(journal)
    found = entries_of_dead(tmp_path)
    assert [payload for _, payload in found] == [f"entry {number}".encode() for number in range(5)]
    assert [position for position, _ in found] == positions == sorted(positions)


def test_it_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    journal.append(b"x")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in journal.folder.iterdir()}
    assert modes["00000001.segment"] == "0o600"
    assert oct(journal.folder.stat().st_mode & 0o777) == "0o700"
    journal.close(delete=True)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_end_hides_nothing_before_it(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    ends = [journal.append(bytes([number]) * (number + 1)) for number in range(4)]
    die(journal)
    [segment] = journal.folder.glob("*.segment")
    whole = segment.read_bytes()
    for length in range(len(whole) + 1):
        segment.write_bytes(whole[:length])
        expected = [end for end in ends if end & (2**40 - 1) <= length]
        assert [position for position, _ in entries_of_dead(tmp_path)] == expected


def test_zeros_that_a_power_cut_left_are_no_entries(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    end = journal.append(b"entry")
    die(journal)
    [segment] = journal.folder.glob("*.segment")
    segment.write_bytes(segment.read_bytes() + bytes(4096))
    assert entries_of_dead(tmp_path) == [(end, b"entry")]


def test_a_journal_is_not_found_before_its_process_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Path] = []
    real = Path.mkdir

    def mkdir(path: Path, *args: object, **options: object) -> None:
        real(path, *args, **options)  # type: ignore[arg-type]
        found.extend(journal.folder for journal in dead_journals(tmp_path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    journal = new_journal(tmp_path)
    assert found == []
    journal.close(delete=True)


def test_nothing_behind_a_fault_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    journal = new_journal(tmp_path, segment_bytes=1)
    journal.append(b"first")
    asyncio.run(journal.rotate())
    journal.append(b"second")
    die(journal)
    first = journal.folder / "00000001.segment"
    first.write_bytes(first.read_bytes()[:-1] + b"!")
    with pytest.raises(JournalError, match=r"00000001\.segment is damaged at byte 0 of 13"):
        entries_of_dead(tmp_path)


def test_any_damaged_byte_before_other_entries_is_found(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    second = journal.append(b"first") & (2**40 - 1)
    journal.append(b"second")
    third = journal.append(b"third") & (2**40 - 1)
    journal.append(b"fourth")
    die(journal)
    [segment] = journal.folder.glob("*.segment")
    whole = segment.read_bytes()
    for place in range(second, third):
        segment.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        [dead] = dead_journals(tmp_path)
        found: list[tuple[int, bytes]] = []
        with pytest.raises(JournalError, match="damaged at byte "):
            found.extend(dead.entries())
        dead.close(delete=False)
        assert [payload for _, payload in found] in ([b"first"], [b"first", b"second"])


async def test_old_segments_go_once_nobody_needs_them(tmp_path: Path) -> None:
    journal = await asyncio.to_thread(new_journal, tmp_path, segment_bytes=10)
    assert not await journal.rotate()
    journal.append(b"more than ten bytes")
    assert await journal.rotate()
    second = journal.append(b"also more than ten")
    assert await journal.rotate()
    await journal.forget(before=second - 1)
    assert [path.name for path in sorted(journal.folder.glob("*.segment"))] == [
        "00000002.segment",
        "00000003.segment",
    ]
    await journal.forget(before=journal.position)
    assert [path.name for path in journal.folder.glob("*.segment")] == ["00000003.segment"]
    await asyncio.to_thread(journal.close, delete=True)


async def test_after_a_full_disk_it_goes_on_in_another_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await asyncio.to_thread(new_journal, tmp_path)
    journal.append(b"before")
    real = os.write

    def full(file: int, data: bytes) -> int:
        real(file, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(JournalError, match="No space left"):
            journal.append(b"torn")
    with pytest.raises(JournalError):
        journal.append(b"still nothing, it could not be read behind the torn one")
    assert await journal.rotate()
    journal.append(b"after")
    await asyncio.to_thread(die, journal)
    found = await asyncio.to_thread(entries_of_dead, tmp_path)
    assert [payload for _, payload in found] == [b"before", b"after"]


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=50), st.none()), max_size=30))
def test_any_appends_and_rotations_are_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | None]
) -> None:
    root = tmp_path_factory.mktemp("journal")
    journal = new_journal(root, segment_bytes=1)
    appended = []
    for step in steps:
        if step is None:
            asyncio.run(journal.rotate())
        else:
            appended.append((journal.append(step), step))
    die(journal)
    assert entries_of_dead(root) == appended
