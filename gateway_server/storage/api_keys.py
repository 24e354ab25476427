"""API keys: never the secret, only what it is recognised by."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.resource_names import api_key_name, tenant_name
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.resources import (
    Change,
    Key,
    ResourceRepository,
    resource_in_use,
    resource_not_found,
)
from gateway_server.storage.tables import api_keys, tenants
from gateway_server.storage.times import micros_of_seconds, timestamp_of_micros

FIRST_PAGE: Final = PageRequest()


@dataclass(frozen=True, slots=True)
class HashedSecret:
    """What is kept of a secret: its hash under a pepper, and a few characters to recognise it by."""

    hash: bytes
    pepper_version: int
    prefix: str
    last4: str


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key, its tenant, and the hash by which it was found.

    ``secret_expire_time`` is when that secret ends, in microseconds, if it is the one before a rotation.
    """

    hash: bytes
    api_key: ApiKey
    tenant: Tenant
    secret_expire_time: int | None


class ApiKeyRepository(ResourceRepository[ApiKey]):
    """Rows of ``api_keys``."""

    table = api_keys
    key_columns = ("tenant_id", "api_key_id")
    unkept_fields = (
        "secret_prefix",
        "secret_last4",
        "revoke_time",
        "last_use_time",
        "previous_secret_expire_time",
    )
    message = ApiKey

    def _name(self, key: Key) -> str:
        return api_key_name(*key)

    def _fill(self, resource: ApiKey, row: Row[Any]) -> None:
        resource.secret_prefix = row.secret_prefix
        resource.secret_last4 = row.secret_last4
        for field, micros in (
            (resource.revoke_time, row.revoke_time),
            (resource.last_use_time, row.last_use_time),
            (resource.previous_secret_expire_time, row.previous_secret_expire_time),
        ):
            if micros is not None:
                field.CopyFrom(timestamp_of_micros(micros))

    async def get(self, tenant_id: str, api_key_id: str) -> ApiKey:
        """The key; raises RESOURCE_NOT_FOUND."""
        return await self._get((tenant_id, api_key_id))

    async def list_page(self, tenant_id: str | None, page: PageRequest = FIRST_PAGE) -> Page[ApiKey]:
        """One page of a tenant's keys, of all tenants' when None; newest first."""
        return await self._list(page, parent={} if tenant_id is None else {"tenant_id": tenant_id})

    async def create(
        self, tenant_id: str, api_key_id: str, api_key: ApiKey, *, secret: HashedSecret
    ) -> ApiKey:
        """Makes a key; raises RESOURCE_ALREADY_EXISTS, or RESOURCE_NOT_FOUND for its tenant."""
        return await self._create((tenant_id, api_key_id), api_key, columns=_secret_columns(secret))

    async def update(
        self, tenant_id: str, api_key_id: str, change: Change[ApiKey], *, etag: str = ""
    ) -> ApiKey:
        """Applies ``change``; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH if ``etag`` is not the present one."""
        return await self._update((tenant_id, api_key_id), change, etag=etag)

    async def rotate(
        self, tenant_id: str, api_key_id: str, secret: HashedSecret, *, grace_seconds: float
    ) -> ApiKey:
        """Gives the key another secret; the one it had works for ``grace_seconds`` more.

        Raises RESOURCE_NOT_FOUND, or RESOURCE_IN_USE when the key is revoked.
        """
        key = (tenant_id, api_key_id)

        def columns(row: Row[Any]) -> Mapping[str, object]:
            if row.revoke_time is not None:
                name = self._name(key)
                raise resource_in_use(name, name, message=f"{name} is revoked and cannot get a new secret")
            keep = grace_seconds > 0
            return {
                **_secret_columns(secret),
                "previous_secret_hash": row.secret_hash if keep else None,
                "previous_secret_expire_time": (
                    self._now() + micros_of_seconds(grace_seconds) if keep else None
                ),
            }

        return await self._update(key, _unchanged, columns=columns)

    async def revoke(self, tenant_id: str, api_key_id: str) -> ApiKey:
        """Ends the key for good; a key that is revoked stays as it is. Raises RESOURCE_NOT_FOUND."""

        def columns(row: Row[Any]) -> Mapping[str, object]:
            return {} if row.revoke_time is not None else {"revoke_time": self._now()}

        return await self._update((tenant_id, api_key_id), _unchanged, columns=columns)

    async def delete(self, tenant_id: str, api_key_id: str, *, etag: str = "") -> None:
        """Deletes the key; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH."""
        await self._delete((tenant_id, api_key_id), etag)

    async def find(self, hashes: Collection[bytes]) -> FoundKey | None:
        """The key one of whose secrets has one of these hashes, revoked and expired ones too."""
        row = await self._find_row(
            or_(api_keys.c.secret_hash.in_(hashes), api_keys.c.previous_secret_hash.in_(hashes))
        )
        if row is None:
            return None
        current = row.secret_hash in hashes
        return FoundKey(
            hash=row.secret_hash if current else row.previous_secret_hash,
            api_key=self.message_of(row),
            tenant=_tenant_of(row),
            secret_expire_time=None if current else row.previous_secret_expire_time,
        )

    async def find_with_tenant(self, tenant_id: str, api_key_id: str) -> tuple[ApiKey, Tenant] | None:
        """A key and its tenant in one step, revoked and expired ones too; None when there is no such key."""
        row = await self._find_row(
            and_(api_keys.c.tenant_id == tenant_id, api_keys.c.api_key_id == api_key_id)
        )
        return None if row is None else (self.message_of(row), _tenant_of(row))

    async def _find_row(self, condition: ColumnElement[bool]) -> Row[Any] | None:
        statement = (
            select(api_keys, tenants.c.spec.label("tenant_spec"))
            .join(tenants, tenants.c.tenant_id == api_keys.c.tenant_id)
            .where(condition)
        )
        async with self._store.read() as connection:
            return (await connection.execute(statement)).first()

    async def record_uses(self, uses: Mapping[tuple[str, str], int]) -> None:
        """Notes when keys were last used, in microseconds. This is no change of the keys: etags stay."""
        if not uses:
            return
        statement = (
            update(api_keys)
            .where(
                api_keys.c.tenant_id == bindparam("t"),
                api_keys.c.api_key_id == bindparam("k"),
                or_(api_keys.c.last_use_time.is_(None), api_keys.c.last_use_time < bindparam("used_at")),
            )
            .values(last_use_time=bindparam("used_at"))
        )
        async with self._store.write() as connection:
            await connection.execute(
                statement, [{"t": t, "k": k, "used_at": micros} for (t, k), micros in uses.items()]
            )

    async def _check_create(self, connection: AsyncConnection, key: Key) -> None:
        statement = select(tenants.c.tenant_id).where(tenants.c.tenant_id == key[0])
        if (await connection.execute(statement)).first() is None:
            raise resource_not_found(tenant_name(key[0]))


def _tenant_of(row: Row[Any]) -> Tenant:
    tenant = Tenant.FromString(row.tenant_spec)
    tenant.name = tenant_name(row.tenant_id)
    return tenant


def _unchanged(_: ApiKey) -> None:
    """A change of columns beside the message alone."""


def _secret_columns(secret: HashedSecret) -> dict[str, object]:
    return {
        "secret_hash": secret.hash,
        "pepper_version": secret.pepper_version,
        "secret_prefix": secret.prefix,
        "secret_last4": secret.last4,
    }
