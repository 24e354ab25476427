"""Who changed what: an event in the transaction of each change, sealed by the hash of the one before it.

The chain is serialised by the lock on the revision that every change counts up. A row that is changed, taken
out or put in afterwards shows when the chain is walked: see ``find_break``. That the newest were taken out
shows by the revision.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from sqlalchemy import Row, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.audit_event_pb2 import AuditEvent
from gateway_server.storage.changes import read_revision
from gateway_server.storage.engine import Store
from gateway_server.storage.paging import Page, PageRequest, decode_page_token, encode_page_token
from gateway_server.storage.tables import audit_events
from gateway_server.storage.times import timestamp_of_micros

#: Settings of providers whose names say that they are secret.
_SECRET_WORDS: Final = ("secret", "password", "token", "key", "credential")
_MASKED: Final = "***"

_VERIFY_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: a key through an RPC; the process itself where both are empty."""

    api_key: str = ""
    request_id: str = ""
    method: str = ""


#: The process itself, at its start or by a command on its machine.
PROCESS: Final = Actor()


async def record_event(
    connection: AsyncConnection,
    *,
    revision: int,
    actor: Actor,
    action: str,
    resource: str,
    before: Message | None,
    after: Message | None,
    now_micros: int,
) -> None:
    """Adds an event to the chain, within the transaction that has counted ``revision`` for the change."""
    statement = select(audit_events.c.hash).order_by(audit_events.c.revision.desc()).limit(1)
    previous = (await connection.execute(statement)).scalar_one_or_none() or b""
    values = {
        "revision": revision,
        "create_time": now_micros,
        "api_key": actor.api_key,
        "method": actor.method or action,
        "resource": resource,
        "before_json": _json_of(before),
        "after_json": _json_of(after),
        "request_id": actor.request_id,
    }
    await connection.execute(insert(audit_events).values(**values, hash=_hash_of(previous, values)))


class AuditRepository:
    """Rows of ``audit_events``, which are never changed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_page(
        self, page: PageRequest, *, resource: str = "", start: int | None = None, end: int | None = None
    ) -> Page[AuditEvent]:
        """One page of events, newest first: of a resource and those below it, between two times."""
        columns = audit_events.c
        query = (resource, repr(start), repr(end))
        cursor = decode_page_token(page.page_token, query, (int,))
        statement = select(audit_events).order_by(columns.revision.desc()).limit(page.limit + 1)
        if resource:
            below = columns.resource.startswith(f"{resource}/", autoescape=True)
            statement = statement.where(or_(columns.resource == resource, below))
        if start is not None:
            statement = statement.where(columns.create_time >= start)
        if end is not None:
            statement = statement.where(columns.create_time < end)
        if cursor is not None:
            statement = statement.where(columns.revision < cursor[0])
        async with self._store.read() as connection:
            rows = (await connection.execute(statement)).all()
        shown = rows[: page.limit]
        token = encode_page_token((shown[-1].revision,), query) if len(rows) > page.limit else ""
        return Page(tuple(map(_message_of, shown)), token)

    async def find_break(self) -> tuple[int, int | None]:
        """Walks the chain: how many events fit, and the revision of the first that does not, if any.

        A store from before there were events has some from its next start on, which makes routes.
        """
        count, last, previous = 0, 0, b""
        async with self._store.read() as connection:
            newest = await read_revision(connection)  # first: events may be added while this reads
            while True:
                statement = (
                    select(audit_events)
                    .where(audit_events.c.revision > last)
                    .order_by(audit_events.c.revision)
                    .limit(_VERIFY_ROWS)
                )
                rows = (await connection.execute(statement)).all()
                for row in rows:
                    if row.hash != _hash_of(previous, _values_of(row)):
                        return count, row.revision
                    count, last, previous = count + 1, row.revision, row.hash
                if not rows:
                    return count, None if last >= newest else last + 1


_SEALED: Final = (
    "revision",
    "create_time",
    "api_key",
    "method",
    "resource",
    "before_json",
    "after_json",
    "request_id",
)


def _values_of(row: Row[Any]) -> dict[str, Any]:
    return {name: row._mapping[name] for name in _SEALED}  # noqa: SLF001 -- public API


def _hash_of(previous: bytes, values: dict[str, Any]) -> bytes:
    """SHA-256 of the hash before and of the values in their order, as a JSON array."""
    return hashlib.sha256(previous + orjson.dumps([values[name] for name in _SEALED])).digest()


def _json_of(resource: Message | None) -> str:
    """A resource as JSON text, with what is secret masked; empty for none."""
    if resource is None:
        return ""
    values = MessageToDict(resource, preserving_proto_field_name=True)
    values.pop("etag", None)
    config = values.get("config")
    if isinstance(config, dict):
        values["config"] = _masked(config)
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def _masked(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _MASKED
        if any(word in name.lower() for word in _SECRET_WORDS)
        else _masked(value)
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }


def _message_of(row: Row[Any]) -> AuditEvent:
    return AuditEvent(
        name=f"auditEvents/{row.revision}",
        create_time=timestamp_of_micros(row.create_time),
        api_key=row.api_key,
        method=row.method,
        resource=row.resource,
        before_json=row.before_json,
        after_json=row.after_json,
        request_id=row.request_id,
        hash=row.hash,
    )
