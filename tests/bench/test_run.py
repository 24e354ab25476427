"""The benchmark itself, with few calls: real processes, the load client and the upstream in C."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from aigateway import completion_text
from bench.bodies import CONFIG, FORMATS, stream_pieces, whole_answer
from bench.cases import BURST, PACED, UNARY
from bench.children import cpu_nanoseconds, resident_bytes
from bench.filling import Filling, fill
from bench.load import measure
from bench.subjects import EMPTY, RELAY, running
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tables import api_keys, usage_rollups
from tests.support.stores import fresh_store
from tests.support.wire import fold_stream, make_endpoint, make_target

ROOT = Path(__file__).resolve().parents[2]


def run_module(module: str, *arguments: str, seconds: float = 50) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIGW_")}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_bench(*arguments: str) -> str:
    return run_module("bench", *arguments)


def test_a_call_is_counted_and_timed() -> None:
    with running([EMPTY, RELAY]) as bench:
        for subject in bench.subjects:
            unary = measure(subject, UNARY, bench.upstream_pid, callers=3, seconds=20, max_calls=40)
            assert (unary.calls, unary.messages) == (40, 1.0)
            assert 0 < unary.total.p50 <= unary.total.p95 <= unary.total.p99
            assert unary.cpu_us > 20
            burst = measure(subject, BURST, bench.upstream_pid, callers=3, seconds=20, max_calls=20)
            assert burst.calls == 20
            assert burst.first_token.p50 <= burst.total.p50
        empty, relay = bench.subjects
        paced = measure(empty, PACED, bench.upstream_pid, callers=1, seconds=20, max_calls=2)
        assert paced.messages == 64.0
        assert paced.total.p50 >= 63 * 5000
        # Deltas of a burst arrive together, so the relay needs fewer messages than there are deltas.
        relayed = measure(relay, BURST, bench.upstream_pid, callers=1, seconds=20, max_calls=10)
        assert relayed.messages < 64


def test_a_failed_call_ends_the_measurement() -> None:
    with running([EMPTY]) as bench:
        # The empty server does not know how to stream it and fails.
        unknown = replace(BURST, model="bench-unknown")
        with pytest.raises(RuntimeError, match="calls failed: grpc-status 2"):
            measure(bench.subjects[0], unknown, bench.upstream_pid, callers=1, seconds=5, max_calls=1)


def test_cpu_time_and_memory_of_a_process_are_read() -> None:
    before = cpu_nanoseconds(os.getpid())
    sum(range(1_000_000))
    assert cpu_nanoseconds(os.getpid()) > before
    assert resident_bytes(os.getpid()) > 2**20


def test_the_comparison_runs_to_its_end(tmp_path: Path) -> None:
    samples = tmp_path / "samples.jsonl"
    report = run_bench("--rounds", "1", "--seconds", "0.1", "--callers", "2", "--samples", str(samples))
    found = [json.loads(line) for line in samples.read_text().splitlines()]
    assert {(line["subject"], line["case"]) for line in found} == {
        (subject, case)
        for subject in ("empty", "relay", "gateway")
        for case in (UNARY.name, BURST.name, PACED.name)
    }
    assert "| Target | Found | Reached |" in report
    assert "gateway / empty" in report


def test_memory_is_watched(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("<!-- bench:memory -->\n<!-- /bench:memory -->\n")
    run_bench("--memory", "--start", "20", "--end", "60", "--write", str(document))
    assert "| 20 | " in document.read_text()
    assert "| 60 | " in document.read_text()


def test_a_gateway_answers_alike_whatever_format_its_provider_speaks() -> None:
    with running(["google"], speaks_all=True) as bench:  # which checks a whole answer and both streams
        burst = measure(bench.subjects[0], BURST, bench.upstream_pid, callers=2, seconds=20, max_calls=10)
    assert burst.calls == 10


@pytest.mark.parametrize("provider_type", FORMATS.values())
def test_each_format_says_the_same(provider_type: str) -> None:
    chat = make_endpoint(provider_type, **CONFIG.get(provider_type, {})).chat_format
    assert chat is not None
    target = make_target(provider_type)
    texts = ["one ", "two ", "three"]

    streamed = fold_stream(stream_pieces(provider_type, texts), target)
    whole = chat.parse_chat(whole_answer(provider_type, "one two three"), target)

    assert completion_text(streamed) == completion_text(whole) == "one two three"


def test_the_share_of_the_router_is_measured() -> None:
    report = run_module("bench.router_share", "--rounds", "1", "--seconds", "0.2")
    _, _, *rows = report.splitlines()
    assert len(rows) == 4
    assert all(0 < float(row.split("|")[5].partition("%")[0]) < 15 for row in rows)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_a_store_is_filled_as_the_gateway_would_have(backend: str, tmp_path: Path) -> None:
    filling = Filling.of_at_least(6_000, 2_000, end_day=20_000)
    sums = select(usage_rollups).order_by(*usage_rollups.primary_key)
    async with fresh_store(backend, tmp_path) as store:
        await fill(store, filling)
        async with store.read() as connection:
            filled = (await connection.execute(sums)).all()
        assert await Settlements(store).rebuild_rollups() == 6_000
        async with store.read() as connection:
            assert (await connection.execute(sums)).all() == filled
            keys = (await connection.execute(select(func.count()).select_from(api_keys))).scalar_one()
    assert keys == 2_000


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_calls_on_a_full_store_are_compared_with_those_on_an_empty_one(backend: str) -> None:
    options = ["--postgresql"] if backend == "postgresql" else []
    arguments = ("--calls", "600", "--keys", "1000", "--rounds", "1", "--seconds", "0.2", *options)
    report = run_module("bench.scale", *arguments, seconds=300)
    assert f"{backend}, 600 calls of 1,000 keys:" in report
    for callers in (1, 16, 64):
        for what in ("CPU, us", "p50, ms", "p99, ms"):
            assert f"| {callers} | {what} | " in report
    assert "| | memory at the end, MiB | " in report


@pytest.mark.slow
def test_replicas_are_compared_with_one_gateway_and_stay_within_limits() -> None:
    report = run_module("bench.replicas", "--rounds", "1", "--seconds", "0.2", "--exhaust", "1", seconds=300)
    assert "| SQL statements a call | " in report
    assert "| 600 requests a minute: served | " in report
