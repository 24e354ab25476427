"""All profiles of the gateway, compiled, as the store has them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile
from gateway_server.errors import GatewayError
from gateway_server.guardrails.detectors import EntityModel, Moderator, ProviderModeration, TextModels
from gateway_server.guardrails.pii.added import AddedKind
from gateway_server.guardrails.rules import (
    Profile,
    compile_profile,
    profile_failed,
    require_models,
    require_parts,
    require_roles,
)
from gateway_server.storage.changes import Changes

_LOG: Final = logging.getLogger(__name__)

Load = Callable[[], Awaitable[Iterable[GuardrailProfile]]]


class ProfileBook:
    """Profiles by name. What a process changes is in effect at once, what others change when polled."""

    def __init__(
        self,
        load: Load,
        models: Callable[[], TextModels],
        entity_model: EntityModel | None = None,
        added_kinds: Mapping[str, AddedKind] = MappingProxyType({}),
        moderator: Moderator | None = None,
    ) -> None:
        """Without a model of entities, no profile can ask for persons and places; without ``moderator``,
        none can ask a provider.
        """
        self._load = load
        self._models = models
        self._entity_model = entity_model
        self._added_kinds = added_kinds
        self._moderator = moderator
        self._profiles: Mapping[str, Profile] = {}
        self._etags: dict[str, str] = {}
        #: Why others cannot be used.
        self._broken: Mapping[str, str] = {}

    def get(self, names: Iterable[str]) -> list[Profile]:
        """The profiles by these names. Raises GUARDRAIL_FAILED for one that is not there or cannot work."""
        profiles: list[Profile] = []
        for name in dict.fromkeys(names):
            profile = self._profiles.get(name)
            if profile is None:
                raise profile_failed(name, self._broken.get(name, "it is not there"))
            profiles.append(profile)
        return profiles

    def __contains__(self, name: str) -> bool:
        return name in self._profiles

    async def compile(self, profile: GuardrailProfile) -> Profile:
        """The profile made ready. Raises INVALID_REQUEST that names the field which cannot work."""
        # In a thread: many patterns take a while, and so do parts that are read when first asked for.
        return await asyncio.to_thread(
            compile_profile,
            profile,
            self._models,
            self._entity_model,
            self._added_kinds,
            self._moderator,
        )

    async def validate(self, profile: GuardrailProfile) -> None:
        """What a profile must be to be written. Raises INVALID_REQUEST that names the field at fault."""
        # Not where profiles are read: those that were written before this was asked work on.
        require_roles(profile)
        require_parts(profile)
        compiled = await self.compile(profile)
        await asyncio.to_thread(require_models, compiled)
        for side, rules in (("input_rules", compiled.input_rules), ("output_rules", compiled.output_rules)):
            for index, rule in enumerate(rules):
                if isinstance(rule.detector, ProviderModeration):
                    field = f"guardrail_profile.{side}[{index}].moderation.provider"
                    await rule.detector.moderator.require(rule.detector.provider, field)

    async def refresh(self) -> None:
        """Reads all profiles again; those that have not changed are kept. Raises STORE_UNAVAILABLE."""
        compiled: dict[str, Profile] = {}
        etags: dict[str, str] = {}
        broken: dict[str, str] = {}
        for profile in await self._load():
            known = self._profiles.get(profile.name)
            if known is not None and self._etags.get(profile.name) == profile.etag:
                compiled[profile.name] = known
            else:
                try:
                    compiled[profile.name] = await self.compile(profile)
                except GatewayError as error:
                    # A newer gateway's, perhaps. Calls that need it fail; none goes unguarded.
                    _LOG.error("%s cannot be used: %s", profile.name, error.message)
                    # To callers only where: what is wrong may quote what an admin looks for.
                    broken[profile.name] = f"see {', '.join(each.field for each in error.violations)}"
                    continue
            etags[profile.name] = profile.etag
        self._profiles, self._etags, self._broken = compiled, etags, broken

    async def on_changes(self, changes: Changes) -> None:
        """Listens to the change feed. Raises STORE_UNAVAILABLE, to be told again."""
        if not changes.complete or any(name.startswith("guardrailProfiles/") for name in changes.resources):
            await self.refresh()
