"""Providers, and their credentials where those are kept here: encrypted, beside the message, never in it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import invalid_request
from gateway_server.resource_names import model_name, provider_name
from gateway_server.storage.paging import Page, PageRequest
from gateway_server.storage.resources import Change, Key, ResourceRepository, resource_in_use
from gateway_server.storage.sealing import MasterKeys, SealedSecret, UnsealError
from gateway_server.storage.tables import models, providers

FIRST_PAGE: Final = PageRequest()

#: Encrypts a secret for a place; as ``MasterKeys.seal``.
Seal = Callable[[str, str], SealedSecret]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What a change of the master key did: how many credentials, and which providers' cannot be opened."""

    changed: int
    current: int
    #: Name of the provider and why, in words that hold no secret.
    failed: tuple[tuple[str, str], ...]


class ProviderRepository(ResourceRepository[Provider]):
    """Rows of ``providers``."""

    table = providers
    key_columns = ("provider_id",)
    unkept_fields = ("credential",)  # has a column of its own, encrypted
    message = Provider

    def _name(self, key: Key) -> str:
        return provider_name(*key)

    async def get(self, provider_id: str) -> Provider:
        """The provider; raises RESOURCE_NOT_FOUND."""
        return await self._get((provider_id,))

    async def sealed_credential(self, provider_id: str) -> SealedSecret | None:
        """The provider's credential if it is kept here; sealed for ``place_of`` it."""
        async with self._store.read() as connection:
            statement = select(self.table).where(self._where((provider_id,)))
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else sealed_credential_of(row)

    async def list_page(self, page: PageRequest = FIRST_PAGE) -> Page[Provider]:
        """One page of all providers, newest first."""
        return await self._list(page, parent={})

    async def create(self, provider_id: str, provider: Provider, *, seal: Seal | None = None) -> Provider:
        """Makes a provider, with its ``credential`` sealed by ``seal``; raises RESOURCE_ALREADY_EXISTS."""
        made = Provider()
        made.CopyFrom(provider)
        made.name = provider_name(provider_id)
        columns = _sealed_columns(made, made.credential, seal) if made.credential else None
        return await self._create((provider_id,), made, columns=columns)

    async def update(
        self,
        provider_id: str,
        change: Change[Provider],
        *,
        etag: str = "",
        credential: str | None = None,
        seal: Seal | None = None,
    ) -> Provider:
        """Applies ``change``; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH if ``etag`` is not the present one.

        ``credential`` takes the place of the one that is kept, an empty one removes it, and None leaves it;
        a provider that gets a ``credential_ref`` keeps none. Raises INVALID_REQUEST when the provider would
        point elsewhere with the credential that it has.
        """
        changed = Provider()

        def apply(provider: Provider) -> None:
            change(provider)
            changed.CopyFrom(provider)

        def columns(row: Row[Any]) -> Mapping[str, object]:
            if credential:
                return _sealed_columns(changed, credential, seal)
            if row.sealed_credential is None:
                return {}
            if credential is not None or changed.credential_ref:
                return {"sealed_credential": None, "credential_key_id": None}
            if place_of(changed) != place_of(self.message_of(row)):
                # Else an administrator could have it sent to any address, and so read it.
                raise invalid_request(
                    "provider.credential", "must be given again when base_url changes: it was for the old one"
                )
            return {}

        return await self._update((provider_id,), apply, etag=etag, columns=columns)

    async def delete(self, provider_id: str, *, etag: str = "") -> None:
        """Deletes a provider; raises RESOURCE_NOT_FOUND, ETAG_MISMATCH, RESOURCE_IN_USE if it has models."""
        await self._delete((provider_id,), etag)

    async def rekey(self, master_keys: MasterKeys) -> Rekeyed:
        """Seals every credential that is kept under the current master key, each in a transaction of its own.

        When it is interrupted, another run does the rest. Resources do not change: their etags stay.
        """
        async with self._store.read() as connection:
            statement = select(self.table.c.provider_id).where(self.table.c.sealed_credential.is_not(None))
            provider_ids = (await connection.execute(statement)).scalars().all()
        changed = current = 0
        failed: list[tuple[str, str]] = []
        for provider_id in provider_ids:
            try:
                if await self._rekey_one((provider_id,), master_keys):
                    changed += 1
                else:
                    current += 1
            except UnsealError as error:
                failed.append((provider_name(provider_id), str(error)))
        return Rekeyed(changed, current, tuple(failed))

    async def _rekey_one(self, key: Key, master_keys: MasterKeys) -> bool:
        """Whether there was something to do."""
        async with self._store.write() as connection:
            statement = select(self.table).where(self._where(key)).with_for_update()
            row = (await connection.execute(statement)).one_or_none()
            sealed = None if row is None else sealed_credential_of(row)
            if row is None or sealed is None:
                return False  # gone since they were listed
            place = place_of(self.message_of(row))
            # In a thread: keys may have to be read again.
            secret = await asyncio.to_thread(master_keys.open, sealed, place)
            if sealed.key_id == master_keys.current_id:
                return False
            fresh = master_keys.seal(secret, place)
            await connection.execute(
                update(self.table)
                .where(self._where(key))
                .values(sealed_credential=fresh.envelope, credential_key_id=fresh.key_id)
            )
            return True

    async def _before_delete(self, connection: AsyncConnection, key: Key) -> None:
        statement = select(models.c.model_id).where(models.c.provider_id == key[0]).limit(1)
        model_id = (await connection.execute(statement)).scalar_one_or_none()
        if model_id is not None:
            name, blocker = self._name(key), model_name(key[0], model_id)
            raise resource_in_use(
                name, blocker, message=f"{name} still has models, {blocker} for one; delete them first"
            )


def place_of(provider: Provider) -> str:
    """What a credential is sealed for: this provider, of this type, at this address."""
    return f"{provider.name}\n{provider.provider_type}\n{provider.base_url}"


def sealed_credential_of(row: Row[Any]) -> SealedSecret | None:
    """The credential in a row of ``providers``, None when none is kept there."""
    if row.sealed_credential is None:
        return None
    return SealedSecret(row.credential_key_id or "", row.sealed_credential)


def _sealed_columns(provider: Provider, credential: str, seal: Seal | None) -> Mapping[str, object]:
    if seal is None:
        raise ValueError("a credential is only kept sealed")
    sealed = seal(credential, place_of(provider))
    return {"sealed_credential": sealed.envelope, "credential_key_id": sealed.key_id}
