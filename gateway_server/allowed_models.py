"""Whether a tenant and a key may use a model or a route: names or globs, as ``gpt-4o*`` or ``openai/*``."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase


def is_allowed(allowed_models: Sequence[tuple[str, ...]], names: Iterable[str]) -> bool:
    """Whether one of ``names`` fits every list of globs; an empty list allows everything.

    ``names`` are those under which a caller may ask for the model: see ``model_names``.
    """
    if not any(allowed_models):
        return True
    candidates = tuple(names)
    return all(
        not globs or any(fnmatchcase(name, glob) for glob in globs for name in candidates)
        for globs in allowed_models
    )


def model_names(provider_id: str, model_id: str) -> tuple[str, str]:
    """The names by which callers ask for a model: ``openai/gpt-4o`` and ``gpt-4o``."""
    return f"{provider_id}/{model_id}", model_id
