"""Sets a provider up in one go: the provider, a look whether it works, and the models that it offers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from gateway_server.cli.edit import Edit
from gateway_server.cli.session import fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from aigateway import Client
    from aigateway.types import Model, Provider

#: So many models without a price are added unasked, as those of a server of one's own are.
_FEW: Final = 20
#: Types that list what could run there, not what does.
_LISTS_TOO_MUCH: Final = frozenset({"azure_openai"})
_WILDCARDS: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which models to add, by the provider's names for them, and what was not chosen and why."""

    names: tuple[str, ...]
    unlisted: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class AddedModels:
    """What became of the chosen models: names of resources."""

    added: tuple[str, ...]
    existing: tuple[str, ...]


def ensure_provider(
    client: "Client", name: str, provider_type: str, write: "Callable[[Edit], None]"
) -> "tuple[Provider, str]":
    """The provider with what ``write`` sets, and what was done: created, changed, or nothing."""
    from aigateway import NotFoundError
    from aigateway.types import Provider

    providers = client.admin.providers
    try:
        provider = providers.get(name)
    except NotFoundError:
        provider = Provider(provider_type=provider_type)
        write(Edit(provider))
        return providers.create(provider, provider_id=name.partition("/")[2]), "created"
    if provider.provider_type != provider_type:
        fail(f"{name} is there already, of type {provider.provider_type}; choose another id")
    edit, etag = Edit(provider), provider.etag
    write(edit)
    if edit.mask:
        provider = providers.update(provider, update_mask=edit.mask)
    return provider, "there already" if provider.etag == etag else "changed"


def choose_models(provider_type: str, offered: Sequence[str], patterns: Sequence[str]) -> Choice:
    """Those that the patterns name; without any, those whose price is known, or all if there are few.

    A name without wildcards is taken even if the provider does not list it: an alias, a deployment.
    """
    if patterns:
        matching = [name for name in offered if any(fnmatchcase(name, pattern) for pattern in patterns)]
        unlisted = [word for word in patterns if word not in offered and not _WILDCARDS & set(word)]
        idle = [
            pattern
            for pattern in patterns
            if pattern not in unlisted and not any(fnmatchcase(name, pattern) for name in matching)
        ]
        remark = f"it offers nothing like {', '.join(idle)}" if idle else ""
        return Choice((*matching, *unlisted), tuple(unlisted), remark)
    if provider_type in _LISTS_TOO_MUCH:
        return Choice((), remark="it does not tell which models are deployed there; name them with --models")
    from gateway_server.usage.prices import find_price

    priced = [name for name in offered if find_price(provider_type, name) is not None]
    if not priced and len(offered) <= _FEW:
        return Choice(tuple(offered))
    left = len(offered) - len(priced)
    remark = f"{left} more are offered, without a known price; --models adds them" if left else ""
    return Choice(tuple(priced), remark=remark)


def add_models(client: "Client", provider: str, names: Iterable[str]) -> AddedModels:
    """Adds the models that are not there yet; the gateway fills in prices and sizes that it knows."""
    from aigateway import ConflictError
    from aigateway.types import Model

    there = {provider_model_of(model): model.name for model in client.admin.models.list(provider)}
    added, existing = [], []
    for name in dict.fromkeys(names):
        if name in there:
            existing.append(there[name])
            continue
        try:
            added.append(client.admin.models.create(provider, Model(provider_model=name)).name)
        except ConflictError as error:  # another name that gives the same id
            existing.append(error.metadata.get("name", name))
    return AddedModels(tuple(added), tuple(existing))


def unlisted_models(client: "Client", provider: str, offered: Sequence[str]) -> list[str]:
    """The enabled models of a provider that it does not offer under the name that the gateway asks for."""
    if not offered or client.admin.providers.get(provider).provider_type in _LISTS_TOO_MUCH:
        return []
    listed = {name.removeprefix("models/") for name in offered}
    return [
        model.name
        for model in client.admin.models.list(provider)
        if not model.disabled and provider_model_of(model).removeprefix("models/") not in listed
    ]


def provider_model_of(model: "Model") -> str:
    """The provider's own name for a model."""
    return model.provider_model or model.name.rpartition("/")[2]
