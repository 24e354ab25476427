"""From the name that a caller gives to the targets that may serve the call."""

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import ModelCapability
from aigateway.v1.routing_pb2 import GatewayOptions
from gateway_server.allowed_models import is_allowed
from gateway_server.call import Principal
from gateway_server.errors import GatewayError, feature_not_supported, not_implemented
from gateway_server.router.catalog import Candidate, Catalog


class Router:
    """Chooses among the models of the current catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def choose(
        self,
        model: str,
        principal: Principal,
        *,
        options: GatewayOptions | None,
        capability: ModelCapability.ValueType,
    ) -> Candidate:
        """The target for a call; raises MODEL_NOT_FOUND, MODEL_NOT_ALLOWED or FEATURE_NOT_SUPPORTED."""
        candidates = self.catalog.find(model)
        if not candidates:
            raise GatewayError(
                ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
                f"no enabled provider serves a model {model!r}",
                metadata={"model": model},
            )
        allowed = [each for each in candidates if is_allowed(principal.allowed_models, each.names)]
        if not allowed:
            raise GatewayError(
                ErrorReason.ERROR_REASON_MODEL_NOT_ALLOWED,
                f"the key may not use the model {model!r}",
                metadata={"model": model},
            )
        wanted = allowed if options is None else [each for each in allowed if _is_wanted(each, options)]
        if not wanted:
            raise GatewayError(
                ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
                f"no provider that the request allows serves a model {model!r}",
                metadata={"model": model},
            )
        for candidate in wanted:
            if not candidate.target.model.capabilities or capability in candidate.target.model.capabilities:
                return candidate
        raise feature_not_supported(
            ModelCapability.Name(capability).removeprefix("MODEL_CAPABILITY_").lower(), model=model
        )


def options_of(
    request: CreateChatCompletionRequest | CountTokensRequest | CreateEmbeddingsRequest,
) -> GatewayOptions | None:
    """The request's options, if it has any; raises NOT_IMPLEMENTED for those that would be ignored."""
    if not request.HasField("gateway_options"):
        return None
    options = request.gateway_options
    for name in ("guardrail_profiles", "strategy", "session_affinity"):
        if getattr(options, name):
            raise not_implemented(f"gateway_options.{name}")
    return options


def _is_wanted(candidate: Candidate, options: GatewayOptions) -> bool:
    provider = candidate.target.provider
    if options.allowed_providers and provider not in options.allowed_providers:
        return False
    return provider not in options.excluded_providers
