"""Figures, verdicts and documents made from samples."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases import BURST, PACED, UNARY
from bench.comparison import Plan, Round, cpu_ratio, delta_cpu_us, first_token_delay_ms, judge, spread_of
from bench.load import Sample, Times
from bench.memory import Reading, judge_memory
from bench.profiling import summarize
from bench.report import speed_report, write_block
from bench.streams import ratios_of

PLAN = Plan(rounds=1, seconds=1.0, callers=(1,), cases=(UNARY, BURST))
SUBJECTS = ("empty", "relay", "gateway")


def sample(subject: str, case: str, cpu_us: float, first_token_us: int) -> Sample:
    times = Times(first_token_us, first_token_us + 500, first_token_us + 900)
    return Sample(
        subject=subject,
        case=case,
        callers=1,
        calls=100,
        seconds=1.0,
        cpu_us=cpu_us,
        client_cpu_us=30.0,
        upstream_cpu_us=35.0,
        messages=1.0,
        total=times,
        first_message=times,
        first_token=times,
    )


def one_round(
    *, gateway_unary: float = 800.0, gateway_burst: float = 2080.0, first_token: int = 1500
) -> Round:
    return [
        sample("empty", UNARY.name, 400.0, 400),
        sample("empty", BURST.name, 5520.0, 600),
        sample("relay", UNARY.name, 600.0, 700),
        sample("relay", BURST.name, 920.0, 900),
        sample("gateway", UNARY.name, gateway_unary, 1000),
        sample("gateway", BURST.name, gateway_burst, first_token),
    ]


def test_figures_compare_the_samples_of_one_round() -> None:
    samples = one_round()
    assert cpu_ratio(samples, UNARY, 1) == 2.0
    assert delta_cpu_us(samples, "empty", BURST, 1) == 80.0
    assert delta_cpu_us(samples, "gateway", BURST, 1) == 20.0
    assert first_token_delay_ms(samples, BURST, 1) == pytest.approx(0.6)


def test_a_spread_is_the_median_of_rounds_with_both_ends() -> None:
    rounds = [one_round(gateway_unary=cpu) for cpu in (800.0, 2000.0, 1000.0)]
    spread = spread_of(rounds, cpu_ratio, UNARY, 1)
    assert (spread.low, spread.median, spread.high) == (2.0, 2.5, 5.0)


@pytest.mark.parametrize(
    ("figures", "reached"),
    [
        ({"gateway_unary": 1000.0, "gateway_burst": 1000.0 + 64 * 40}, [True, True, True]),
        ({"gateway_unary": 1001.0, "gateway_burst": 1001.0 + 64 * 40}, [False, True, True]),
        ({"gateway_unary": 800.0, "gateway_burst": 800.0 + 64 * 41}, [True, False, True]),
        ({"first_token": 1900}, [True, True, True]),
        ({"first_token": 1901}, [True, True, False]),
    ],
)
def test_a_target_is_missed_just_above_its_limit(figures: dict[str, float], reached: list[bool]) -> None:
    verdicts = judge([one_round(**figures)], PLAN)  # type: ignore[arg-type]
    assert [verdict.reached for verdict in verdicts] == reached


def test_what_was_not_measured_is_not_judged() -> None:
    assert judge([one_round()], replace(PLAN, callers=(), cases=())) == []
    assert len(judge([one_round()], replace(PLAN, cases=(UNARY,)))) == 1


def test_a_missing_sample_is_an_error_and_no_gap_in_the_table() -> None:
    with pytest.raises(KeyError, match="gateway, 64 deltas, 5 ms apart, 1 caller was not measured"):
        cpu_ratio(one_round(), PACED, 1)


def test_the_report_shows_every_cell_and_every_missed_target() -> None:
    rounds = [one_round(gateway_unary=1200.0)]
    report = speed_report(rounds, PLAN, judge(rounds, PLAN), SUBJECTS)
    assert "| unary | 1 | 400 | 600 | 1200 | 3.00 |  |  |  |" in report
    assert "| 64 deltas in a burst | 1 | 5520 | 920 | 2080 | 0.38 | 80.0 | 5.0 | 13.8 |" in report
    assert "3.00 times (3.00 to 3.00) | **no** |" in report
    assert "| unary | 1 | gateway | 100 | 1.0 | 1.00 | 1.50 | 1.90 | 1.00 | 1.50 | 1.90 |" in report


def test_memory_is_judged_by_its_growth_after_the_start() -> None:
    flat = judge_memory(
        [Reading(20_000, 100 * 2**20), Reading(60_000, 120 * 2**20), Reading(100_000, 104 * 2**20)]
    )
    assert flat.reached
    assert flat.found == "+4.0% (100.0 to 104.0 MiB)"
    assert not judge_memory([Reading(20_000, 100 * 2**20), Reading(100_000, 105 * 2**20)]).reached


def test_writing_replaces_the_marked_block_only(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("By hand.\n<!-- bench:speed -->\nold\n<!-- /bench:speed -->\nAlso by hand.\n")
    write_block(document, "speed", r"new \1")
    write_block(document, "speed", r"newer \1")
    assert document.read_text() == (
        "By hand.\n<!-- bench:speed -->\n\nnewer \\1\n\n<!-- /bench:speed -->\nAlso by hand.\n"
    )
    with pytest.raises(ValueError, match="no place marked bench:memory"):
        write_block(document, "memory", "new")


def test_a_profile_counts_a_function_once_a_stack() -> None:
    text = summarize("main;send;send 3\nmain;parse 1\n", top=2)
    assert text.splitlines() == [
        "4 samples",
        "",
        "own",
        " 75.0 %  send",
        " 25.0 %  parse",
        "",
        "with callees",
        "100.0 %  main",
        " 75.0 %  send",
    ]


def test_a_format_is_measured_in_deltas_of_the_first_in_the_same_round() -> None:
    def samples(*, openai: float, google: float) -> Round:
        cells = {"openai": (500.0, openai), "google": (700.0, google)}
        return [
            sample(name, case.name, cpu_us, 0)
            for name, figures in cells.items()
            for case, cpu_us in zip((UNARY, BURST), figures, strict=True)
        ]

    rounds = [
        samples(openai=500 + 640, google=700 + 960),
        samples(openai=500 + 1280, google=700 + 1280),
    ]

    assert ratios_of(rounds, "google", BURST, 1) == [1.5, 1.0]
    assert ratios_of(rounds, "openai", BURST, 1) == [1.0, 1.0]
