"""Which targets cannot serve a request, and why: pure functions, whose reasons callers may see."""

from typing import Final, NamedTuple

from aigateway.v1.model_pb2 import ModelCapability
from aigateway.v1.routing_pb2 import CandidateExclusion, GatewayOptions
from aigateway.v1.usage_pb2 import Modality
from gateway_server.allowed_models import is_allowed
from gateway_server.call import Principal
from gateway_server.router.catalog import Candidate
from gateway_server.router.facts import RequestFacts

_CE: Final = CandidateExclusion

#: How much of a target's usual time to the first content has to be left.
_SHARE_OF_USUAL_TIME: Final = 0.5


class Exclusion(NamedTuple):
    """Why a target is dropped, and what exactly is in the way."""

    kind: CandidateExclusion.ValueType
    detail: str


def forbids(
    candidate: Candidate, facts: RequestFacts, principal: Principal, *, route: str | None
) -> Exclusion | None:
    """What is in the way for this caller or this request, whatever the time.

    ``route`` is the name of the route that leads here: to allow a route is to allow what it leads to.
    """
    names = candidate.names if route is None else (*candidate.names, route)
    if not is_allowed(principal.allowed_models, names):
        return Exclusion(
            _CE.CANDIDATE_EXCLUSION_NOT_ALLOWED,
            "not among the allowed models of tenant and key",
        )
    if not _is_requested(candidate, facts.options):
        return Exclusion(
            _CE.CANDIDATE_EXCLUSION_NOT_REQUESTED,
            "its provider is not one that the request takes",
        )
    lacking = _lacking(candidate, facts)
    if lacking:
        return Exclusion(_CE.CANDIDATE_EXCLUSION_CAPABILITY, lacking)
    if not candidate.has_price and principal.needs_prices:
        return Exclusion(_CE.CANDIDATE_EXCLUSION_UNPRICED, "it has no price, and a budget applies")
    return None


def is_unlikely(
    candidate: Candidate, facts: RequestFacts, *, remaining: float, usual_time: float | None
) -> Exclusion | None:
    """What is probably in the way, by estimates; only to be heeded while there are others to try.

    ``remaining`` is what the call has left, ``usual_time`` what the target takes to answer, in seconds.
    """
    most = candidate.max_output_tokens
    if most and facts.max_output_tokens > most:
        return Exclusion(_CE.CANDIDATE_EXCLUSION_TOKEN_LIMIT, f"it writes at most {most} tokens")
    window = candidate.context_window_tokens
    if window and facts.input_tokens + facts.max_output_tokens > window:
        return Exclusion(
            _CE.CANDIDATE_EXCLUSION_TOKEN_LIMIT,
            f"its context window has {window} tokens, and about "
            f"{facts.input_tokens + facts.max_output_tokens} are needed",
        )
    if usual_time is not None and remaining < usual_time * _SHARE_OF_USUAL_TIME:
        return Exclusion(
            _CE.CANDIDATE_EXCLUSION_DEADLINE,
            f"it usually takes {usual_time:.1f} s, and {max(remaining, 0.0):.1f} s are left",
        )
    return None


def _is_requested(candidate: Candidate, options: GatewayOptions) -> bool:
    provider = candidate.target.provider
    if options.allowed_providers and provider not in options.allowed_providers:
        return False
    return provider not in options.excluded_providers


def _lacking(candidate: Candidate, facts: RequestFacts) -> str:
    """What the request needs and the model is known to lack, in words; empty when there is nothing."""
    endpoint = candidate.endpoint
    serves = (
        endpoint.embeddings_format
        if facts.capability == ModelCapability.MODEL_CAPABILITY_EMBEDDINGS
        else endpoint.chat_format
    )
    if serves is None:
        return _word(facts.capability)
    if candidate.capabilities:
        for need in sorted(facts.needs - candidate.capabilities):
            return _word(need)
    if candidate.input_modalities:
        for modality in sorted(facts.modalities - candidate.input_modalities):
            return f"{Modality.Name(modality).removeprefix('MODALITY_').lower()} input"
    return ""


def _word(capability: ModelCapability.ValueType) -> str:
    return ModelCapability.Name(capability).removeprefix("MODEL_CAPABILITY_").lower()
