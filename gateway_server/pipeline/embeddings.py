"""One embeddings call, from its plan to the settled account."""

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from aigateway.v1.usage_pb2 import UsageState
from gateway_server.call import CallContext
from gateway_server.errors import feature_not_supported
from gateway_server.pipeline.account import Accounts
from gateway_server.pipeline.failover import Failover, Try, Turn
from gateway_server.pipeline.guarding import Guardrails
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.router.facts import EmbeddingsFacts
from gateway_server.router.router import Option, Router
from gateway_server.usage.ceiling import embeddings_ceiling
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
                body = embeddings_format.render_embeddings(request, target)
                await account.admit(option.candidate, tokens=expected.total_tokens)

                async def ask(turn: Turn) -> CreateEmbeddingsResponse:
                    attempt = await turn.open(embeddings_ceiling(request, target.model), lambda: expected)
                    with attempt:
                        async with await self._upstream.send(
                            endpoint.embeddings_call(target, body), call, within=plan.policy.attempt_timeout
                        ) as response:
                            attempt.http_status = response.status
                            if response.status != 200:
                                data = await read_error_body(response)
                                raise embeddings_format.parse_error(
                                    response.status, response.headers, data, target
                                )
                            data = await response.read()
                        answer = embeddings_format.parse_embeddings(
                            data, request, target, headers=response.headers
                        )
                        attempt.usage = (
                            answer.usage
                            if answer.HasField("usage")
                            else estimate_embeddings_usage(request, UsageState.USAGE_STATE_ESTIMATED)
                        )
                        attempt.take_served_by(answer.served_by)
                    return answer

                return ask

            answer = await Failover(self._router, plan, call, account, prepare).serve()
            account.introduce(answer)
            account.conclude(answer)
            return answer
