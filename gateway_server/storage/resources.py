"""What the repositories of all resources have in common: one row per resource, its message in ``spec``.

A repository returns messages with all output-only fields filled in, and takes messages whose output-only
fields it ignores.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from sqlalchemy import ColumnElement, Row, Table, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.storage.audit import PROCESS, Actor, record_event
from gateway_server.storage.changes import record_change
from gateway_server.storage.engine import Store, violated_constraint
from gateway_server.storage.paging import Page, PageRequest, decode_page_token, encode_page_token
from gateway_server.storage.times import micros_of_seconds, timestamp_of_micros

M = TypeVar("M", Tenant, ApiKey, Provider, Model, Route, GuardrailProfile)

#: The ids in a resource's name, outermost first.
Key = tuple[str, ...]

#: Changes a resource in place; raises GatewayError to leave it as it is.
Change = Callable[[M], None]

_CHUNK: Final = 1000


def etag_of(uid: str, version: int) -> str:
    """Tells this state of this row from every other, also of a row deleted and made again under its name."""
    return hashlib.sha256(f"{uid}:{version}".encode()).hexdigest()[:16]


def resource_not_found(name: str) -> GatewayError:
    """The error for a resource that is not there, or that the caller may not see."""
    return GatewayError(
        ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND, f"{name} does not exist", metadata={"name": name}
    )


def resource_already_exists(name: str) -> GatewayError:
    """The error for a name that is taken."""
    return GatewayError(
        ErrorReason.ERROR_REASON_RESOURCE_ALREADY_EXISTS, f"{name} already exists", metadata={"name": name}
    )


def resource_in_use(name: str, blocker: str, *, message: str) -> GatewayError:
    """The error for what something else, or the resource's own state, does not allow."""
    return GatewayError(
        ErrorReason.ERROR_REASON_RESOURCE_IN_USE, message, metadata={"name": name, "blocker": blocker}
    )


class ResourceRepository(Generic[M]):
    """Get, list, create, update and delete rows of one table. Each noun's repository names them properly."""

    table: ClassVar[Table]
    key_columns: ClassVar[tuple[str, ...]]
    #: Fields of the message that are never kept in ``spec``, besides those that every resource has.
    unkept_fields: ClassVar[tuple[str, ...]] = ()
    message: type[M]

    def __init__(self, store: Store, clock: Clock, *, actor: Actor = PROCESS) -> None:
        self._store = store
        self._clock = clock
        self._actor = actor

    def by(self, actor: Actor) -> Self:
        """The same repository for changes that ``actor`` makes."""
        return type(self)(self._store, self._clock, actor=actor)

    @abstractmethod
    def _name(self, key: Key) -> str:
        """The resource name."""

    def _fill(self, resource: M, row: Row[Any]) -> None:
        """Sets output-only fields of this kind from columns of their own."""

    def _now(self) -> int:
        return micros_of_seconds(self._clock.now())

    def _where(self, key: Key) -> ColumnElement[bool]:
        return and_(
            *(self.table.c[column] == value for column, value in zip(self.key_columns, key, strict=True))
        )

    def _key_of(self, row: Row[Any]) -> Key:
        return tuple(row._mapping[column] for column in self.key_columns)  # noqa: SLF001 -- public API

    def message_of(self, row: Row[Any]) -> M:
        """The resource that a row of the table holds."""
        resource = self.message.FromString(row.spec)
        resource.name = self._name(self._key_of(row))
        resource.create_time.CopyFrom(timestamp_of_micros(row.create_time))
        resource.update_time.CopyFrom(timestamp_of_micros(row.update_time))
        resource.etag = etag_of(row.uid, row.version)
        self._fill(resource, row)
        return resource

    def _spec_of(self, resource: M) -> bytes:
        kept = self.message()
        kept.CopyFrom(resource)
        for field in ("name", "create_time", "update_time", "etag", *self.unkept_fields):
            kept.ClearField(field)  # type: ignore[arg-type]
        return kept.SerializeToString(deterministic=True)

    async def _get(self, key: Key) -> M:
        async with self._store.read() as connection:
            row = (await connection.execute(select(self.table).where(self._where(key)))).one_or_none()
        if row is None:
            raise resource_not_found(self._name(key))
        return self.message_of(row)

    async def _list(
        self,
        page: PageRequest,
        *,
        parent: Mapping[str, str],
        accept: Callable[[M], bool] | None = None,
    ) -> Page[M]:
        """Newest first; of all parents when ``parent`` is empty, and only what ``accept`` takes."""
        query = (self.table.name, *parent.values())
        cursor = decode_page_token(page.page_token, query, (str,))
        limit = page.limit
        statement = select(self.table).order_by(self.table.c.uid.desc())
        for column, value in parent.items():
            statement = statement.where(self.table.c[column] == value)
        found: list[tuple[str, M]] = []
        async with self._store.read() as connection:
            while len(found) <= limit:
                # One row more than fits tells whether there is another page.
                chunk = limit + 1 - len(found) if accept is None else _CHUNK
                here = statement.limit(chunk)
                if cursor is not None:
                    here = here.where(self.table.c.uid < cursor[0])
                rows = (await connection.execute(here)).all()
                for row in rows:
                    resource = self.message_of(row)
                    if accept is None or accept(resource):
                        found.append((row.uid, resource))
                if len(rows) < chunk:
                    break
                cursor = (rows[-1].uid,)
        items = tuple(resource for _, resource in found[:limit])
        more = len(found) > limit
        return Page(items, encode_page_token((found[limit - 1][0],), query) if more else "")

    async def _create(self, key: Key, resource: M, *, columns: Mapping[str, object] | None = None) -> M:
        now = self._now()
        values = {
            **dict(zip(self.key_columns, key, strict=True)),
            "uid": new_id(),
            "version": 1,
            "create_time": now,
            "update_time": now,
            "spec": self._spec_of(resource),
            **(columns or {}),
        }
        async with self._store.write() as connection:
            await self._check_create(connection, key)
            try:
                row = (
                    await connection.execute(insert(self.table).values(values).returning(self.table))
                ).one()
            except IntegrityError as error:
                match violated_constraint(error):
                    case "unique":
                        raise resource_already_exists(self._name(key)) from None
                    case "foreign_key":
                        # The parent went since it was looked for.
                        raise resource_not_found(self._name(key).rsplit("/", 2)[0]) from None
                raise
            created = self.message_of(row)
            await self._record(connection, "create", key, before=None, after=created)
        return created

    async def _check_create(self, connection: AsyncConnection, key: Key) -> None:
        """Raises when the parent is missing or the name must not be used."""

    async def _update(
        self,
        key: Key,
        change: Change[M],
        *,
        etag: str = "",
        columns: Callable[[Row[Any]], Mapping[str, object]] | None = None,
    ) -> M:
        """Applies ``change`` to the resource as it is now; a change that changes nothing writes nothing.

        ``columns`` gives new values of columns beside ``spec`` for the present row.
        """
        async with self._store.write() as connection:
            row = await self._locked(connection, key, etag)
            resource = self.message_of(row)
            change(resource)
            spec = self._spec_of(resource)
            extra = columns(row) if columns is not None else {}
            if spec == row.spec and not extra:
                return self.message_of(row)
            now = self._now()
            changed = (
                await connection.execute(
                    update(self.table)
                    .where(self._where(key), self.table.c.version == row.version)
                    .values({"spec": spec, "version": row.version + 1, "update_time": now, **extra})
                    .returning(self.table)
                )
            ).one()
            before, after = self.message_of(row), self.message_of(changed)
            await self._record(connection, "update", key, before=before, after=after)
        return after

    async def _delete(self, key: Key, etag: str) -> None:
        async with self._store.write() as connection:
            row = await self._locked(connection, key, etag)
            await self._before_delete(connection, key)
            await connection.execute(delete(self.table).where(self._where(key)))
            await self._record(connection, "delete", key, before=self.message_of(row), after=None)

    async def _record(
        self, connection: AsyncConnection, action: str, key: Key, *, before: M | None, after: M | None
    ) -> None:
        """Tells of a change, within its transaction: other processes that it was made, the audit by whom."""
        now = self._now()
        revision = await record_change(connection, self._name(key), now)
        await record_event(
            connection,
            revision=revision,
            actor=self._actor,
            action=action,
            resource=self._name(key),
            before=before,
            after=after,
            now_micros=now,
        )

    async def _before_delete(self, connection: AsyncConnection, key: Key) -> None:
        """Does, in the same transaction, what has to come first; raises when the row must stay."""

    async def _locked(self, connection: AsyncConnection, key: Key, etag: str) -> Row[Any]:
        """The row, which nobody else can change until the transaction ends; raises ETAG_MISMATCH."""
        statement = select(self.table).where(self._where(key)).with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        name = self._name(key)
        if row is None:
            raise resource_not_found(name)
        current = etag_of(row.uid, row.version)
        if etag and etag != current:
            raise GatewayError(
                ErrorReason.ERROR_REASON_ETAG_MISMATCH,
                f"{name} has changed since it was read: its etag is now {current}",
                metadata={"name": name, "current_etag": current},
            )
        return row
