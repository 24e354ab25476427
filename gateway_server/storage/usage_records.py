"""The ledger's rows: one per call and one per attempt, written in batches and never changed."""

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import ColumnElement, Row, and_, false, func, not_, or_, select, tuple_
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.routing_pb2 import Attempt, GuardrailResult
from aigateway.v1.usage_pb2 import Cost, TokenUsage
from aigateway.v1.usage_service_pb2 import UsageRecord
from gateway_server.resource_names import api_key_name, parse_api_key, provider_name, usage_record_name
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.engine import Store
from gateway_server.storage.inserts import insert_once
from gateway_server.storage.paging import Cursor, Page, PageRequest, decode_page_token, encode_page_token
from gateway_server.storage.spendings import Spending
from gateway_server.storage.tables import usage_attempts, usage_records
from gateway_server.storage.times import (
    day_of_micros,
    duration_of_micros,
    micros_of_duration,
    timestamp_of_micros,
)

FIRST_PAGE: Final = PageRequest()
#: So many calls are read for one page, however few of them a filter lets through.
_MAX_READ: Final = 5_000

_PROVIDER_PREFIX: Final = "providers/"

#: Columns by their names in ``usage_records``.
Columns = Mapping[str, ColumnElement[Any]]

Measured = TypeVar("Measured", UsageRecord, Attempt)

#: PostgreSQL has no NUL, and UTF-8 no halves of pairs.
_NOT_STORABLE: Final = re.compile("[\0\ud800-\udfff]")

#: Columns whose text is the caller's or the provider's, with what stands there for none.
_FREE_TEXT: Final[Mapping[str, object]] = {
    "environment": "",
    "model": "",
    "provider_model": "",
    "provider_response_id": "",
    "end_user_id": "",
    "labels": {},
}


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call as it is settled, without content. Times are microseconds, ``start_time`` since the epoch.

    ``request_id`` is the gateway's own: a record whose id the ledger has already is not written again.
    ``cost`` is None without a price, ``usage`` when no tokens are known. ``attempts`` have their own.
    ``charges`` is what the attempts cost by the budget windows where it was held.
    """

    request_id: str
    tenant_id: str
    api_key_id: str
    method: str
    model: str
    start_time: int
    latency: int
    status_code: int
    error_reason: str = ""
    time_to_first_token: int | None = None
    provider_id: str = ""
    provider_model: str = ""
    provider_response_id: str = ""
    usage: TokenUsage | None = None
    cost: Cost | None = None
    attempts: Sequence[Attempt] = ()
    guardrail_results: Sequence[GuardrailResult] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    end_user_id: str = ""
    environment: str = ""
    charges: Mapping[WindowKey, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallRows:
    """A settled call as it is written: its row, those of its attempts, and what it cost by budget window."""

    record: dict[str, Any]
    attempts: list[dict[str, Any]]
    charges: Mapping[WindowKey, int]

    @property
    def spending(self) -> Spending:
        """What budgets have to know of it."""
        return Spending(
            tenant_id=self.record["tenant_id"],
            api_key_id=self.record["api_key_id"],
            start_time=self.record["start_time"],
            nanos=sum(attempt["cost_nanos"] or 0 for attempt in self.attempts),
            charges=self.charges,
        )

    def without_free_text(self) -> "CallRows":
        """What has to be paid for, without all that the gateway did not write itself."""
        return replace(
            self,
            record={**self.record, **_FREE_TEXT},
            attempts=[{**attempt, "provider_model": ""} for attempt in self.attempts],
        )


def rows_of(record: CallRecord) -> CallRows:
    """The rows of a call."""
    return CallRows(_record_row(record), attempt_rows(record), record.charges)


def leave_out_written(connection: Connection, calls: Sequence[CallRows]) -> list[CallRows]:
    """Those of the calls that the ledger does not have."""
    if not calls:
        return []
    columns = usage_records.c
    statement = select(columns.start_day, columns.request_id).where(
        columns.start_day.in_({call.record["start_day"] for call in calls}),
        columns.request_id.in_([call.record["request_id"] for call in calls]),
    )
    written = {tuple(row) for row in connection.execute(statement)}
    return [call for call in calls if (call.record["start_day"], call.record["request_id"]) not in written]


def insert_calls(connection: Connection, calls: Sequence[CallRows]) -> None:
    """Writes calls and their attempts; those that are there already stay as they are."""
    dialect = connection.dialect.name
    connection.execute(insert_once(usage_records, dialect), [call.record for call in calls])
    attempts = [attempt for call in calls for attempt in call.attempts]
    if attempts:
        connection.execute(insert_once(usage_attempts, dialect), attempts)


#: A comparison of numbers.
Order = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison with a property of a call; what is not set counts as empty, and has no place in an order.

    ``field`` is a column of ``usage_records``, or one of those below.

    ``api_key`` is compared with a resource name, ``provider`` with an id, ``labels`` with the value of the
    one called ``label``, which must hold neither double quotes nor backslashes: SQLite cannot look for them.
    """

    field: str
    value: str | int
    equal: bool = True
    label: str = ""
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Not:
    """What does not hold."""

    filter: "Filter"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """What holds when one of them does."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """What holds when all of them do."""

    filters: tuple["Filter", ...]


Filter = Condition | Not | AnyOf | AllOf


def conditions_in(filters: Iterable[Filter]) -> Iterator[Condition]:
    """All comparisons within some filters."""
    for each in filters:
        match each:
            case Condition():
                yield each
            case Not():
                yield from conditions_in((each.filter,))
            case AnyOf() | AllOf():
                yield from conditions_in(each.filters)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which calls: of one tenant, or of all when None; begun from ``start_time`` until before ``end_time``.

    Times are microseconds since the epoch. Every condition must hold.
    """

    tenant_id: str | None
    start_time: int | None = None
    end_time: int | None = None
    conditions: tuple[Filter, ...] = ()


class UsageRepository:
    """Rows of ``usage_records`` and ``usage_attempts``."""

    def __init__(self, store: Store) -> None:
        self._store = store.unhurried

    async def list_page(self, query: UsageQuery, page: PageRequest = FIRST_PAGE) -> Page[UsageRecord]:
        """One page of calls, the last begun first. Raises DEADLINE_EXCEEDED if it takes too long.

        Where conditions hold seldom, a page ends early, if need be empty, with a token of where to go on.
        """
        key = (repr(query),)
        cursor = decode_page_token(page.page_token, key, (int, str))
        limit = page.limit
        place = (usage_records.c.start_time, usage_records.c.request_id)
        where = _interval_of(query)
        if cursor is not None:
            where.append(tuple_(*place) < tuple_(*cursor))
        order = [column.desc() for column in place]
        async with self._store.report() as connection:
            last: Cursor | None = None
            if query.conditions:
                scan = select(*place).where(*where).order_by(*order).offset(_MAX_READ - 1).limit(1)
                found = (await connection.execute(scan)).first()
                if found is not None:
                    last = tuple(found)
                    where.append(tuple_(*place) >= tuple_(*last))
            statement = (
                select(usage_records)
                .where(*where, *_conditions_of(query))
                .order_by(*order)
                .limit(limit + 1)  # one more than fits tells whether there is another page
            )
            rows = (await connection.execute(statement)).all()
            shown = rows[:limit]
            attempts = await _attempts_of(connection, shown)
        if len(rows) > limit:
            last = (shown[-1].start_time, shown[-1].request_id)
        token = encode_page_token(last, key) if last is not None else ""
        return Page(tuple(_message_of(row, attempts.get(row.request_id, ())) for row in shown), token)


def _interval_of(query: UsageQuery) -> list[ColumnElement[bool]]:
    columns = usage_records.c
    found: list[ColumnElement[bool]] = []
    if query.tenant_id is not None:
        found.append(columns.tenant_id == query.tenant_id)
    if query.start_time is not None:
        found.append(columns.start_time >= query.start_time)
    if query.end_time is not None:
        found.append(columns.start_time < query.end_time)
    return found


def _conditions_of(query: UsageQuery) -> list[ColumnElement[bool]]:
    columns = dict(usage_records.c.items())
    return [holds(each, columns) for each in query.conditions]


def holds(each: Filter, columns: Columns) -> ColumnElement[bool]:
    """Whether a filter holds, by columns that are called as those of ``usage_records``."""
    match each:
        case Condition():
            compared = _compare(each, columns)
            return compared if each.equal else not_(compared)
        case Not():
            # What compares with nothing is not true, so that its opposite is.
            return not_(func.coalesce(holds(each.filter, columns), false()))
        case AnyOf():
            return or_(*(holds(one, columns) for one in each.filters))
        case AllOf():
            return and_(*(holds(one, columns) for one in each.filters))


def _compare(condition: Condition, columns: Columns) -> ColumnElement[bool]:
    match condition.field:
        case "api_key":
            tenant_id, api_key_id = parse_api_key(str(condition.value), field="filter")
            return and_(columns["tenant_id"] == tenant_id, columns["api_key_id"] == api_key_id)
        case "provider":
            return columns["provider_id"] == condition.value
        case "labels":
            return func.coalesce(columns["labels"][condition.label].as_string(), "") == condition.value
    column = columns[condition.field]
    if condition.order is None:
        return column == condition.value
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[condition.order]
    found: ColumnElement[bool] = compare(column, condition.value)
    return found


async def _attempts_of(connection: AsyncConnection, records: Sequence[Row[Any]]) -> dict[str, list[Row[Any]]]:
    """The attempts of these calls by request id, in order."""
    if not records:
        return {}
    rows = await connection.execute(
        select(usage_attempts)
        .where(
            usage_attempts.c.start_day.in_({row.start_day for row in records}),
            usage_attempts.c.request_id.in_([row.request_id for row in records]),
        )
        .order_by(usage_attempts.c.request_id, usage_attempts.c.attempt_number)
    )
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.request_id, []).append(row)
    return found


def _record_row(record: CallRecord) -> dict[str, Any]:
    return {
        "start_day": day_of_micros(record.start_time),
        "request_id": record.request_id,
        "tenant_id": record.tenant_id,
        "api_key_id": record.api_key_id,
        "environment": _storable(record.environment),
        "method": record.method,
        "model": _storable(record.model),
        "provider_id": record.provider_id,
        "provider_model": _storable(record.provider_model),
        "provider_response_id": _storable(record.provider_response_id),
        "start_time": record.start_time,
        "latency_micros": record.latency,
        "time_to_first_token_micros": record.time_to_first_token,
        "status_code": record.status_code,
        "error_reason": record.error_reason,
        "end_user_id": _storable(record.end_user_id),
        "labels": {_storable(name): _storable(value) for name, value in record.labels.items()},
        **_usage_row(record.usage, record.cost),
        "detail": _detail_of(record.usage, record.guardrail_results),
    }


def attempt_rows(record: CallRecord) -> list[dict[str, Any]]:
    """The rows of a call's attempts."""
    day = day_of_micros(record.start_time)
    return [
        {
            "start_day": day,
            "request_id": record.request_id,
            "attempt_number": number,
            "tenant_id": record.tenant_id,
            "provider_id": attempt.provider.removeprefix(_PROVIDER_PREFIX),
            "provider_model": _storable(attempt.provider_model),
            "wait_micros": micros_of_duration(attempt.wait),
            "latency_micros": micros_of_duration(attempt.latency),
            "time_to_first_token_micros": (
                micros_of_duration(attempt.time_to_first_token)
                if attempt.HasField("time_to_first_token")
                else None
            ),
            "status_code": attempt.status_code,
            "error_reason": attempt.error_reason,
            "http_status": attempt.http_status,
            **_usage_row(
                attempt.usage if attempt.HasField("usage") else None,
                attempt.cost if attempt.HasField("cost") else None,
            ),
            "detail": _detail_of(attempt.usage, ()),
        }
        for number, attempt in enumerate(record.attempts, start=1)
    ]


def _storable(text: str) -> str:
    """``text`` as every database takes it: no character in it may keep a record out."""
    return _NOT_STORABLE.sub("\ufffd", text)


def sum_of_attempts(rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """The columns of tokens and costs of a call with these rows of attempts."""
    total: dict[str, object] = {}
    for column in (*_NO_USAGE, *_NO_COST):
        known = [row[column] for row in rows if row[column] is not None]
        if column in _NOT_ADDED:
            total[column] = max(known, default=None)
        else:
            total[column] = sum(known) if known else None
    return total


def _usage_row(usage: TokenUsage | None, cost: Cost | None) -> dict[str, object]:
    return {
        **(_NO_USAGE if usage is None else _tokens_row(usage)),
        **(_NO_COST if cost is None else _cost_row(cost)),
    }


def _tokens_row(usage: TokenUsage) -> dict[str, object]:
    return {
        "usage_state": usage.state,
        "input_tokens": usage.input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_write_input_tokens": usage.cache_write_input_tokens,
        "cache_write_long_input_tokens": usage.cache_write_long_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_output_tokens": usage.reasoning_output_tokens,
        "total_tokens": usage.total_tokens,
    }


def _cost_row(cost: Cost) -> dict[str, object]:
    return {
        "cost_nanos": cost.total_nanos,
        "input_cost_nanos": cost.input_nanos,
        "cache_read_cost_nanos": cost.cache_read_nanos,
        "cache_write_cost_nanos": cost.cache_write_nanos,
        "output_cost_nanos": cost.output_nanos,
        "extras_cost_nanos": cost.extras_nanos,
        "cost_estimated": cost.estimated,
    }


_NO_USAGE: Final = dict.fromkeys(_tokens_row(TokenUsage()))
_NO_COST: Final = dict.fromkeys(_cost_row(Cost()))
#: A sum is known as well as the least known of its parts, whose state has the highest number.
_NOT_ADDED: Final = frozenset({"usage_state", "cost_estimated"})


def _detail_of(usage: TokenUsage | None, guardrail_results: Sequence[GuardrailResult]) -> bytes | None:
    """What is only ever shown, not searched: a UsageRecord of tokens by modality and guardrail results."""
    by_modality = usage is not None and (usage.input_by_modality or usage.output_by_modality)
    if not by_modality and not guardrail_results:
        return None
    detail = UsageRecord(guardrail_results=guardrail_results)
    if usage is not None and by_modality:
        detail.usage.input_by_modality.extend(usage.input_by_modality)
        detail.usage.output_by_modality.extend(usage.output_by_modality)
    return detail.SerializeToString()


def _message_of(row: Row[Any], attempts: Sequence[Row[Any]]) -> UsageRecord:
    record = _shared_message_of(row, UsageRecord())
    record.name = usage_record_name(row.tenant_id, row.request_id)
    record.method = row.method
    record.api_key = api_key_name(row.tenant_id, row.api_key_id)
    record.model = row.model
    if row.provider_id:
        record.served_by.provider = provider_name(row.provider_id)
        record.served_by.provider_model = row.provider_model
        record.served_by.provider_response_id = row.provider_response_id
    record.start_time.CopyFrom(timestamp_of_micros(row.start_time))
    record.labels.update(row.labels)
    record.end_user_id = row.end_user_id
    record.environment = row.environment
    for attempt_row in attempts:
        attempt = _shared_message_of(attempt_row, Attempt())
        attempt.provider = provider_name(attempt_row.provider_id)
        attempt.provider_model = attempt_row.provider_model
        attempt.http_status = attempt_row.http_status
        attempt.wait.CopyFrom(duration_of_micros(attempt_row.wait_micros))
        record.attempts.append(attempt)
    return record


def _shared_message_of(row: Row[Any], message: Measured) -> Measured:
    """``message`` with what calls and attempts have in common: time, outcome, tokens, cost."""
    if row.detail is not None:
        detail = UsageRecord.FromString(row.detail)
        if isinstance(message, UsageRecord):
            message.CopyFrom(detail)
        else:
            message.usage.CopyFrom(detail.usage)
    message.latency.CopyFrom(duration_of_micros(row.latency_micros))
    if row.time_to_first_token_micros is not None:
        message.time_to_first_token.CopyFrom(duration_of_micros(row.time_to_first_token_micros))
    message.status_code = row.status_code
    message.error_reason = row.error_reason
    if row.usage_state is not None:
        message.usage.MergeFrom(
            TokenUsage(
                state=row.usage_state,
                input_tokens=row.input_tokens,
                cache_read_input_tokens=row.cache_read_input_tokens,
                cache_write_input_tokens=row.cache_write_input_tokens,
                cache_write_long_input_tokens=row.cache_write_long_input_tokens,
                output_tokens=row.output_tokens,
                reasoning_output_tokens=row.reasoning_output_tokens,
                total_tokens=row.total_tokens,
            )
        )
    if row.cost_nanos is not None:
        message.cost.CopyFrom(
            Cost(
                currency_code="USD",
                total_nanos=row.cost_nanos,
                input_nanos=row.input_cost_nanos,
                cache_read_nanos=row.cache_read_cost_nanos,
                cache_write_nanos=row.cache_write_cost_nanos,
                output_nanos=row.output_cost_nanos,
                extras_nanos=row.extras_cost_nanos,
                estimated=row.cost_estimated,
            )
        )
    return message
