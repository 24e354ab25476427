"""What stands in a journal: attempts before they are sent, and calls as they were settled.

Entries are JSON, so that a person can read them too; rows stand in them as they will in the ledger.
"""

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson
from google.rpc import code_pb2

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.routing_pb2 import Attempt
from aigateway.v1.usage_pb2 import Cost, UsageState
from gateway_server.errors import reason_name
from gateway_server.resource_names import provider_name
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.usage_records import CallRecord, CallRows, rows_of, sum_of_attempts
from gateway_server.usage.cost import CURRENCY
from gateway_server.usage.estimate import make_usage
from gateway_server.usage.journal import JournalError, place_of

_OPEN: Final = 0
_SETTLED: Final = 1

_INTERRUPTED: Final = reason_name(ErrorReason.ERROR_REASON_INTERRUPTED)


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that is about to be sent: all that is needed to settle its call if this process dies.

    ``input_tokens`` and ``output_tokens`` are the most that it can use, ``most_nanos`` what those cost, None
    without a price; ``windows`` is where that is held. ``ended`` are rows of the attempts before it, which
    cost ``charges`` by window.
    """

    request_id: str
    tenant_id: str
    api_key_id: str
    environment: str
    method: str
    model: str
    start_time: int
    labels: Mapping[str, str]
    end_user_id: str
    provider_id: str
    provider_model: str
    input_tokens: int
    output_tokens: int
    most_nanos: int | None
    windows: tuple[WindowKey, ...]
    ended: Sequence[dict[str, Any]] = ()
    charges: Mapping[WindowKey, int] | None = None


def encode_open(attempt: OpenAttempt) -> bytes:
    """The entry for an attempt."""
    return orjson.dumps(
        [
            _OPEN,
            attempt.request_id,
            attempt.tenant_id,
            attempt.api_key_id,
            attempt.environment,
            attempt.method,
            attempt.model,
            attempt.start_time,
            attempt.labels,
            attempt.end_user_id,
            attempt.provider_id,
            attempt.provider_model,
            attempt.input_tokens,
            attempt.output_tokens,
            attempt.most_nanos,
            [_list_of(window) for window in attempt.windows],
            attempt.ended,
            _pairs_of(attempt.charges or {}),
        ],
        default=_text_of_bytes,
    )


def encode_settled(call: CallRows) -> bytes:
    """The entry for a settled call."""
    return orjson.dumps(
        [_SETTLED, call.record, call.attempts, _pairs_of(call.charges)], default=_text_of_bytes
    )


def decode(payload: bytes) -> OpenAttempt | CallRows:
    """What an entry says. Raises ValueError for one of another version."""
    kind, *values = orjson.loads(payload)
    match kind:
        case 0:
            *_, windows, ended, charges = values
            values[-3:] = (
                tuple(WindowKey(*window) for window in windows),
                [_row_of(row) for row in ended],
                _charges_of(charges),
            )
            return OpenAttempt(*values)
        case 1:
            record, attempts, charges = values
            return CallRows(_row_of(record), [_row_of(row) for row in attempts], _charges_of(charges))
    raise ValueError(f"an entry of kind {kind!r}")


class Unsettled(NamedTuple):
    """Calls of a journal by the positions to settle them at, and what keeps the rest from being read."""

    calls: list[tuple[int, CallRows]]
    fault: str = ""


def unsettled(
    entries: Iterable[tuple[int, bytes]], settled_position: int, *, refused: Collection[str] = ()
) -> Unsettled:
    """What a dead process's journal has beyond ``settled_position``, in order of the positions.

    First the calls that it had settled; behind all of them come those that the database had ``refused``, by
    their ids, and those that the process was in the midst of, settled at the most that they may have cost.
    Some of these may be written: the journal does not know of calls that were settled while it could not be
    written, nor of a recovery that was broken off. The ledger does.

    At a fault, all that was settled before it: what comes behind it may tell how calls before it ended.
    """
    calls: list[tuple[int, CallRows]] = []
    open_attempts: dict[str, OpenAttempt] = {}
    end = 0
    try:
        for end, payload in entries:
            match decode(payload):
                case OpenAttempt() as attempt:
                    open_attempts[attempt.request_id] = attempt
                case CallRows() as call:
                    open_attempts.pop(call.record["request_id"], None)
                    calls.append((end, call))
        interrupted = [_interrupted(attempt) for attempt in open_attempts.values()]
    except (JournalError, OSError) as error:
        return Unsettled(_beyond(settled_position, calls), str(error))
    except Exception as error:  # noqa: BLE001 -- nobody knows what a damaged entry makes fail
        fault = f"the entry up to {place_of(end)} cannot be understood: {error!r}"
        return Unsettled(_beyond(settled_position, calls), fault)
    again = [
        call
        for position, call in calls
        if position <= settled_position and call.record["request_id"] in refused
    ]
    behind = enumerate([*again, *interrupted], start=max(end, settled_position) + 1)
    return Unsettled([*_beyond(settled_position, calls), *behind])


def _beyond(position: int, calls: Iterable[tuple[int, CallRows]]) -> list[tuple[int, CallRows]]:
    return [each for each in calls if each[0] > position]


def interrupted_attempt(attempt: OpenAttempt) -> Attempt:
    """An attempt that nobody knows the end of, at the most that it may have used and cost."""
    cost = None
    if attempt.most_nanos is not None:
        cost = Cost(currency_code=CURRENCY, total_nanos=attempt.most_nanos, estimated=True)
    return Attempt(
        provider=provider_name(attempt.provider_id),
        provider_model=attempt.provider_model,
        status_code=code_pb2.UNAVAILABLE,
        error_reason=_INTERRUPTED,
        usage=make_usage(attempt.input_tokens, attempt.output_tokens, UsageState.USAGE_STATE_ESTIMATED),
        cost=cost,
    )


def _interrupted(attempt: OpenAttempt) -> CallRows:
    """The call of an attempt that nobody knows the end of."""
    last_attempt = interrupted_attempt(attempt)
    charges = dict(attempt.charges or {})
    for window in attempt.windows:
        charges[window] = charges.get(window, 0) + (attempt.most_nanos or 0)
    call = rows_of(
        CallRecord(
            request_id=attempt.request_id,
            tenant_id=attempt.tenant_id,
            api_key_id=attempt.api_key_id,
            environment=attempt.environment,
            method=attempt.method,
            model=attempt.model,
            start_time=attempt.start_time,
            latency=0,
            status_code=code_pb2.UNAVAILABLE,
            error_reason=_INTERRUPTED,
            usage=last_attempt.usage,
            cost=last_attempt.cost if last_attempt.HasField("cost") else None,
            attempts=[last_attempt],
            labels=attempt.labels,
            end_user_id=attempt.end_user_id,
            charges=charges,
        )
    )
    last = {**call.attempts[0], "attempt_number": len(attempt.ended) + 1}
    attempts = [*attempt.ended, last]
    return CallRows({**call.record, **sum_of_attempts(attempts)}, attempts, call.charges)


def _list_of(window: WindowKey) -> list[str | int]:
    return [window.tenant_id, window.api_key_id, window.period, window.start_time]


def _pairs_of(charges: Mapping[WindowKey, int]) -> list[list[Any]]:
    return [[_list_of(window), nanos] for window, nanos in charges.items()]


def _charges_of(pairs: Iterable[list[Any]]) -> dict[WindowKey, int]:
    return {WindowKey(*window): nanos for window, nanos in pairs}


def _text_of_bytes(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def _row_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its only bytes, ``detail``, as bytes again."""
    if row["detail"] is not None:
        row["detail"] = base64.b64decode(row["detail"])
    return row
