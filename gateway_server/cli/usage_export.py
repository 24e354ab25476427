"""Usage records as files that other programs read: one flat row for each call."""

import csv
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TextIO

from gateway_server.cli.session import fail

if TYPE_CHECKING:
    from aigateway.types import UsageRecord

_ROWS_AT_ONCE: Final = 10_000
#: What makes a spreadsheet take a text for a formula, by the OWASP's page on CSV injection.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class ExportFormat(StrEnum):
    """What a file can be."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


#: The columns and their types; amounts of money are whole billionths of a US dollar.
COLUMNS: Final[dict[str, type]] = {
    "name": str,
    "start_time": str,
    "method": str,
    "api_key": str,
    "environment": str,
    "model": str,
    "provider": str,
    "provider_model": str,
    "provider_response_id": str,
    "latency_micros": int,
    "time_to_first_token_micros": int,
    "status_code": int,
    "error_reason": str,
    "usage_state": str,
    "input_tokens": int,
    "cache_read_input_tokens": int,
    "cache_write_input_tokens": int,
    "cache_write_long_input_tokens": int,
    "output_tokens": int,
    "reasoning_output_tokens": int,
    "total_tokens": int,
    "cost_nanos": int,
    "input_cost_nanos": int,
    "cache_read_cost_nanos": int,
    "cache_write_cost_nanos": int,
    "output_cost_nanos": int,
    "extras_cost_nanos": int,
    "cost_estimated": bool,
    "attempts": int,
    "end_user_id": str,
    "labels": str,
}


def export(records: "Iterable[UsageRecord]", file: Path | None, file_format: ExportFormat) -> int:
    """Writes the records, in little memory however many there are; how many they were.

    ``file`` is there, or replaced, once it is whole.
    """
    rows = (_row_of(record) for record in records)
    if file_format is ExportFormat.PARQUET:
        if file is None:
            fail("a Parquet file cannot be printed: name one with --output")
        with _replacing(file) as part:
            return _write_parquet(rows, part)
    with _opened(file) as out:
        if file_format is ExportFormat.CSV:
            writer = csv.DictWriter(out, COLUMNS)
            writer.writeheader()
            return sum(writer.writerow(_without_formulas(row)) is not None for row in rows)
        count = 0
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        return count


def _without_formulas(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
        for name, value in row.items()
    }


def _row_of(record: "UsageRecord") -> dict[str, Any]:
    from aigateway.v1.usage_pb2 import UsageState

    usage, cost = record.usage, record.cost
    has_first = record.HasField("time_to_first_token")
    known, priced = record.HasField("usage"), record.HasField("cost")
    return {
        "name": record.name,
        "start_time": record.start_time.ToJsonString(),
        "method": record.method,
        "api_key": record.api_key,
        "environment": record.environment,
        "model": record.model,
        "provider": record.served_by.provider,
        "provider_model": record.served_by.provider_model,
        "provider_response_id": record.served_by.provider_response_id,
        "latency_micros": record.latency.ToMicroseconds(),
        "time_to_first_token_micros": record.time_to_first_token.ToMicroseconds() if has_first else None,
        "status_code": record.status_code,
        "error_reason": record.error_reason,
        "usage_state": UsageState.Name(usage.state).removeprefix("USAGE_STATE_") if known else "",
        "input_tokens": usage.input_tokens if known else None,
        "cache_read_input_tokens": usage.cache_read_input_tokens if known else None,
        "cache_write_input_tokens": usage.cache_write_input_tokens if known else None,
        "cache_write_long_input_tokens": usage.cache_write_long_input_tokens if known else None,
        "output_tokens": usage.output_tokens if known else None,
        "reasoning_output_tokens": usage.reasoning_output_tokens if known else None,
        "total_tokens": usage.total_tokens if known else None,
        "cost_nanos": cost.total_nanos if priced else None,
        "input_cost_nanos": cost.input_nanos if priced else None,
        "cache_read_cost_nanos": cost.cache_read_nanos if priced else None,
        "cache_write_cost_nanos": cost.cache_write_nanos if priced else None,
        "output_cost_nanos": cost.output_nanos if priced else None,
        "extras_cost_nanos": cost.extras_nanos if priced else None,
        "cost_estimated": cost.estimated if priced else None,
        "attempts": len(record.attempts),
        "end_user_id": record.end_user_id,
        "labels": json.dumps(dict(sorted(record.labels.items())), ensure_ascii=False),
    }


@contextmanager
def _opened(file: Path | None) -> Iterator[TextIO | IO[str]]:
    if file is None:
        yield sys.stdout
        return
    with _replacing(file) as part, part.open("w", encoding="utf-8", newline="") as out:
        yield out


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """Where to write what takes the place of a file once it is whole: beside it, or straight to a device."""
    file = file.resolve()
    if file.exists() and not file.is_file():
        yield file
        return
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        yield part
        if file.exists():
            shutil.copymode(file, part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _write_parquet(rows: Iterator[dict[str, Any]], file: Path) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        fail("Parquet needs the package pyarrow: install ai-gateway[parquet], or export CSV")
    kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        while batch := [row for row, _ in zip(rows, range(_ROWS_AT_ONCE), strict=False)]:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
