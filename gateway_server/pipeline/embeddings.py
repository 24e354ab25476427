"""One embeddings call, from the chosen target to the settled account."""

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from aigateway.v1.model_pb2 import ModelCapability
from aigateway.v1.usage_pb2 import UsageState
from gateway_server.call import CallContext
from gateway_server.errors import feature_not_supported
from gateway_server.metrics import Metrics
from gateway_server.pipeline.account import CallAccount
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.router.router import Router, options_of
from gateway_server.usage.estimate import estimate_embeddings_usage
from gateway_server.usage.ledger import Ledger


class EmbeddingsPipeline:
    """Serves embeddings calls: choose a target, ask it, tell the caller, settle."""

    def __init__(self, *, router: Router, upstream: Upstream, ledger: Ledger, metrics: Metrics) -> None:
        self._router = router
        self._upstream = upstream
        self._ledger = ledger
        self._metrics = metrics

    async def create(self, request: CreateEmbeddingsRequest, call: CallContext) -> CreateEmbeddingsResponse:
        """One embedding for each input, in order."""
        account = CallAccount(
            call,
            ledger=self._ledger,
            metrics=self._metrics,
            model=request.model,
            labels=request.labels,
            end_user_id=request.end_user_id,
        )
        with account:
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
            attempt = account.attempt(
                target, lambda: estimate_embeddings_usage(request, UsageState.USAGE_STATE_PARTIAL)
            )
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
