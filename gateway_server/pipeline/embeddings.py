"""One embeddings call, from the chosen target to the settled account."""

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from aigateway.v1.model_pb2 import ModelCapability
from aigateway.v1.usage_pb2 import UsageState
from gateway_server.call import CallContext
from gateway_server.errors import feature_not_supported
from gateway_server.pipeline.account import Accounts
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.router.router import Router, options_of
from gateway_server.usage.ceiling import embeddings_ceiling
from gateway_server.usage.estimate import estimate_embeddings_usage


class EmbeddingsPipeline:
    """Serves embeddings calls: choose a target, ask it, tell the caller, settle."""

    def __init__(self, *, router: Router, upstream: Upstream, accounts: Accounts) -> None:
        self._router = router
        self._upstream = upstream
        self._accounts = accounts

    async def create(self, request: CreateEmbeddingsRequest, call: CallContext) -> CreateEmbeddingsResponse:
        """One embedding for each input, in order."""
        with self._accounts.open(
            call, model=request.model, labels=request.labels, end_user_id=request.end_user_id
        ) as account:
            candidate = self._router.choose(
                request.model,
                call.principal,
                options=options_of(request),
                capability=ModelCapability.MODEL_CAPABILITY_EMBEDDINGS,
            )
            target = candidate.target
            embeddings_format = candidate.endpoint.embeddings_format
            if embeddings_format is None:
                raise feature_not_supported("embeddings", model=candidate.name)
            body = embeddings_format.render_embeddings(request, target)
            http_call = candidate.endpoint.embeddings_call(target, body)
            ceiling = embeddings_ceiling(request, target.model)
            expected = estimate_embeddings_usage(request, UsageState.USAGE_STATE_PARTIAL)
            await account.admit(candidate.names, tokens=expected.total_tokens)
            attempt = await account.attempt(target, ceiling, lambda: expected)
            with attempt:
                async with await self._upstream.send(http_call, call) as response:
                    attempt.http_status = response.status
                    if response.status != 200:
                        data = await read_error_body(response)
                        raise embeddings_format.parse_error(response.status, response.headers, data, target)
                    data = await response.read()
                answer = embeddings_format.parse_embeddings(data, request, target, headers=response.headers)
                attempt.usage = (
                    answer.usage
                    if answer.HasField("usage")
                    else estimate_embeddings_usage(request, UsageState.USAGE_STATE_ESTIMATED)
                )
                attempt.take_served_by(answer.served_by)
            account.introduce(answer)
            account.conclude(answer)
            return answer
