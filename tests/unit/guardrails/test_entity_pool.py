"""Processes that find entities: they are replaced when they die or hang, and end with their pool."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway_server.guardrails.ner import pool as pool_module
from gateway_server.guardrails.ner.model import Entity, ModelError
from gateway_server.guardrails.ner.pool import EntityPool

ADA = Entity(0, 12, "PERSON")
#: Seconds within which a process starts, also on a machine that is busy.
LONG = 50.0


@pytest.fixture(scope="module")
def shared_pool(rule_model: str) -> Iterator[EntityPool]:
    pool = EntityPool(rule_model)
    assert pool.why_unusable() == ""
    yield pool
    pool.close()


def pids(pool: EntityPool) -> list[int]:
    return [worker._process.pid or 0 for worker in pool._workers]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_texts_are_answered_in_their_order(shared_pool: EntityPool) -> None:
    asked = ["nobody", "Ada Lovelace", "in Berlin", "Ada Lovelace", ""]
    assert shared_pool.find(asked, LONG) == [(), (ADA,), (Entity(3, 9, "LOCATION"),), (ADA,), ()]
    assert shared_pool.find([], LONG) == []


def test_long_lists_go_in_portions_and_threads_take_turns(shared_pool: EntityPool) -> None:
    def find(thread: int) -> list[object]:
        return list(shared_pool.find([f"Ada Lovelace {thread} {index}" for index in range(1_000)], LONG))

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(find, range(4))) == [[(ADA,)] * 1_000] * 4


def test_a_process_that_was_killed_breaks_no_later_call_and_not_the_one_that_asks(
    shared_pool: EntityPool,
) -> None:
    for number in range(2):
        [pid] = pids(shared_pool)
        os.kill(pid, signal.SIGKILL)
        assert shared_pool.find([f"Ada Lovelace, killed {number}"], LONG) == [(ADA,)]
        assert pids(shared_pool) != [pid]
        assert not is_alive(pid)


def test_a_process_that_is_killed_at_work_is_replaced(shared_pool: EntityPool) -> None:
    [pid] = pids(shared_pool)
    os.kill(pid, signal.SIGSTOP)  # so that it is at work when it is killed
    killing = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killing.start()
    assert shared_pool.find(["Ada Lovelace at work"], LONG) == [(ADA,)]
    killing.join()


def test_a_process_that_hangs_is_replaced(shared_pool: EntityPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_HANG_SECONDS", 0.2)
    [pid] = pids(shared_pool)
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        shared_pool.find(["Ada Lovelace hangs"], 0.2)
    assert time.monotonic() - started < 5
    assert shared_pool.find(["Ada Lovelace hangs"], LONG) == [(ADA,)]
    assert not is_alive(pid)


def test_a_process_that_is_only_late_is_kept(shared_pool: EntityPool) -> None:
    [pid] = pids(shared_pool)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        shared_pool.find(["Ada Lovelace is late"], 0.1)
    os.kill(pid, signal.SIGCONT)
    # The answer that came too late is not taken for that of the next.
    assert shared_pool.find(["in Berlin, later"], LONG) == [(Entity(3, 9, "LOCATION"),)]
    assert pids(shared_pool) == [pid]


def test_signals_to_all_processes_end_none_of_the_pool(shared_pool: EntityPool) -> None:
    [pid] = pids(shared_pool)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert shared_pool.find(["Ada Lovelace interrupts"], LONG) == [(ADA,)]
    assert pids(shared_pool) == [pid]


def test_what_was_asked_before_is_known_without_asking(shared_pool: EntityPool) -> None:
    shared_pool.find(["Ada Lovelace again"], LONG)
    assert shared_pool.find(["Ada Lovelace again"], 0) == [(ADA,)]
    with pytest.raises(TimeoutError):
        shared_pool.find(["Ada Lovelace anew"], 0)


def test_a_pool_that_is_closed_leaves_no_process(rule_model: str) -> None:
    pool = EntityPool(rule_model, processes=2)
    assert pool.why_unusable() == ""
    before = pids(pool)
    assert len(before) == 2
    pool.close()
    assert not any(map(is_alive, before))
    with pytest.raises(ModelError):
        pool.find(["Ada Lovelace"], LONG)


def test_a_pool_can_be_closed_while_it_starts(rule_model: str) -> None:
    pool = EntityPool(rule_model)
    pool.start()
    before = pids(pool)
    pool.close()
    assert not any(map(is_alive, before))


def test_a_model_that_is_not_there_fails_at_once_and_is_found_later(
    rule_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    pool = EntityPool(str(folder))
    assert pool.why_unusable() == f"there is no spaCy model in {folder}"
    with pytest.raises(ModelError):
        pool.find(["Ada Lovelace"], LONG)
    assert not pids(pool)
    folder.symlink_to(rule_model)
    monkeypatch.setattr(pool_module, "_RETRY_SECONDS", 0.0)
    assert pool.find(["Ada Lovelace"], LONG) == [(ADA,)]
    pool.close()


def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.cfg").write_text("nonsense")
    pool = EntityPool(str(tmp_path))
    assert pool.why_unusable() == f"the spaCy model {tmp_path} cannot be loaded: OSError"
    pool.close()


def test_this_process_does_not_import_spacy() -> None:
    check = "import gateway_server.app, sys; sys.exit('spacy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_processes_end_with_the_one_that_started_them_however_it_ends(rule_model: str) -> None:
    program = (
        "import time\n"
        "from gateway_server.guardrails.ner.pool import EntityPool\n"
        f"pool = EntityPool({rule_model!r})\n"
        "assert not pool.why_unusable()\n"
        "[worker] = pool._workers\n"
        "print(worker._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)
