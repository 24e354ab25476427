"""Files of usage records: whole or not there, and nothing that a spreadsheet would carry out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from aigateway.types import UsageRecord
from gateway_server.cli.output import printable
from gateway_server.cli.usage_export import ExportFormat, export


def broken_off() -> Iterator[UsageRecord]:
    for number in range(25_000):
        yield UsageRecord(name=f"tenants/acme/usageRecords/r{number}")
    raise ConnectionError("the gateway has gone")


@pytest.mark.parametrize("file_format", ExportFormat)
@pytest.mark.parametrize("before", [None, "what was there"])
def test_an_export_that_breaks_off_leaves_no_file(
    tmp_path: Path, file_format: ExportFormat, before: str | None
) -> None:
    file = tmp_path / "usage"
    if before is not None:
        file.write_text(before)
    with pytest.raises(ConnectionError):
        export(broken_off(), file, file_format)
    assert [each.read_text() for each in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_file_that_is_replaced_keeps_its_permissions_and_its_links(tmp_path: Path) -> None:
    file, link = tmp_path / "usage", tmp_path / "link"
    file.touch(0o600)
    link.symlink_to(file)
    assert export([UsageRecord(name="n")], link, ExportFormat.JSONL) == 1
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert '"name": "n"' in file.read_text()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1", "a=1", "", "'a"])
def test_no_text_of_a_caller_is_a_formula(tmp_path: Path, text: str) -> None:
    record = UsageRecord(name="n", model=text, end_user_id=text)
    record.cost.total_nanos = -5
    file = tmp_path / "usage"
    export([record], file, ExportFormat.CSV)
    with file.open(encoding="utf-8", newline="") as opened:
        [row] = csv.DictReader(opened)
    shown = text if text in {"a=1", "", "'a"} else f"'{text}"
    assert (row["model"], row["end_user_id"], row["cost_nanos"]) == (shown, shown, "-5")
    export([record], file, ExportFormat.PARQUET)
    assert parquet.read_table(file).to_pylist()[0]["model"] == text


def test_what_turns_text_round_is_shown_and_not_done() -> None:
    turned = "".join(map(chr, (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
    told = printable(f"a{turned}b\N{LEFT SINGLE QUOTATION MARK}")
    assert told.isascii() is False
    assert not set(turned) & set(told)
    assert told.startswith("a\\u061c\\u200e\\u200f\\u202a")
    assert told.endswith("\\u2069b\N{LEFT SINGLE QUOTATION MARK}")
