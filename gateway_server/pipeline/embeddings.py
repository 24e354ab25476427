"""One embeddings call, from its plan to the settled account."""

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.call import CallContext
from gateway_server.errors import feature_not_supported
from gateway_server.pipeline.account import Accounts
from gateway_server.pipeline.embeddings_batch import EmbeddingsBatch
from gateway_server.pipeline.failover import Failover, Try, Turn
from gateway_server.pipeline.guarding import Guardrails
from gateway_server.pipeline.upstream import Upstream
from gateway_server.router.facts import EmbeddingsFacts
from gateway_server.router.router import Option, Router
from gateway_server.usage.estimate import estimate_embeddings_usage


class EmbeddingsPipeline:
    """Serves embeddings calls: plan, ask, tell the caller, settle. Only the same model stands in for one."""

    def __init__(
        self, *, router: Router, upstream: Upstream, accounts: Accounts, guardrails: Guardrails
    ) -> None:
        self._router = router
        self._upstream = upstream
        self._accounts = accounts
        self._guardrails = guardrails

    async def create(self, request: CreateEmbeddingsRequest, call: CallContext) -> CreateEmbeddingsResponse:
        """One embedding for each input, in order."""
        with self._accounts.open(
            call, model=request.model, labels=request.labels, end_user_id=request.end_user_id
        ) as account:
            guard = account.guard = self._guardrails.open(call.principal, request.gateway_options)
            request = await guard.check(request)
            facts = EmbeddingsFacts(request)
            plan = self._router.plan(facts, call)
            expected = estimate_embeddings_usage(request, UsageState.USAGE_STATE_PARTIAL)

            async def prepare(option: Option) -> Try[CreateEmbeddingsResponse]:
                endpoint, target = option.candidate.endpoint, option.candidate.target
                embeddings_format = endpoint.embeddings_format
                if embeddings_format is None:
                    raise feature_not_supported("embeddings", model=option.candidate.name)
                batch = EmbeddingsBatch(
                    request,
                    endpoint=endpoint,
                    embeddings_format=embeddings_format,
                    target=target,
                    upstream=self._upstream,
                )
                await account.admit(option.candidate, tokens=expected.total_tokens)

                async def ask(turn: Turn) -> CreateEmbeddingsResponse:
                    # The batch tells what was used however it ends.
                    attempt = await turn.open(batch.ceiling(), lambda: None)
                    with attempt:
                        answer = await batch.ask(attempt, call, within=plan.policy.attempt_timeout)
                        attempt.take_served_by(answer.served_by)
                    return answer

                return ask

            answer = await Failover(self._router, plan, call, account, prepare).serve()
            usage = TokenUsage()
            usage.CopyFrom(answer.usage)
            account.introduce(answer)
            account.conclude(answer)
            # A retry asks for the rest only, so the last attempt may have used less than the answer did.
            answer.usage.CopyFrom(usage)
            return answer
