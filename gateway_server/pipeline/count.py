"""One count of a conversation's tokens: by the provider where it counts, else estimated here."""

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CountTokensResponse
from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.call import CallContext
from gateway_server.pipeline.account import Accounts
from gateway_server.pipeline.failover import Failover, Try, Turn
from gateway_server.pipeline.guarding import Guardrails
from gateway_server.pipeline.media import CallMedia
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.providers.base import CountTokensEndpoint, Target
from gateway_server.providers.media_fetch import MediaFetcher
from gateway_server.router.facts import CountFacts
from gateway_server.router.router import Option, Router
from gateway_server.usage.ceiling import NOTHING


class CountPipeline:
    """Serves counts: plan, ask or estimate, settle. Providers bill nothing for a count."""

    def __init__(
        self,
        *,
        router: Router,
        upstream: Upstream,
        accounts: Accounts,
        guardrails: Guardrails,
        media_fetcher: MediaFetcher | None = None,
    ) -> None:
        self._router = router
        self._upstream = upstream
        self._accounts = accounts
        self._guardrails = guardrails
        self._media_fetcher = media_fetcher

    async def count(self, request: CountTokensRequest, call: CallContext) -> CountTokensResponse:
        """The input tokens of the conversation."""
        with self._accounts.open(call, model=request.model) as account:
            guard = account.guard = self._guardrails.open(call.principal, request.gateway_options)
            request = await guard.check(request)
            facts = CountFacts(request)
            media = CallMedia(self._media_fetcher, check=guard.check)
            plan = self._router.plan(facts, call)

            async def prepare(option: Option) -> Try[CountTokensResponse]:
                endpoint, target = option.candidate.endpoint, option.candidate.target
                counts = isinstance(endpoint, CountTokensEndpoint) and endpoint.count_format.counts(target)
                await account.admit(option.candidate, tokens=0, asks_provider=counts)
                if not isinstance(endpoint, CountTokensEndpoint) or not counts:

                    async def estimate(_: Turn) -> CountTokensResponse:
                        return _estimated(facts, target)

                    return estimate
                count_format = endpoint.count_format
                asked = request
                if wanted := media.wanted_by(count_format, target, request.messages):
                    account.has_fetched = True
                    asked = await media.inline(request, wanted)
                body = count_format.render_count(asked, target)

                async def ask(turn: Turn) -> CountTokensResponse:
                    http_call = endpoint.count_call(target, body, options=request.provider_options)
                    with await turn.open(NOTHING, lambda: None) as attempt:
                        async with await self._upstream.send(http_call, call) as response:
                            attempt.http_status = response.status
                            if response.status != 200:
                                data = await read_error_body(response)
                                failure = count_format.parse_error(
                                    response.status, response.headers, data, target
                                )
                                if failure.reason == ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED:
                                    return _estimated(facts, target)
                                raise failure
                            data = await response.read()
                        answer = count_format.parse_count(data, target)
                        attempt.take_served_by(answer.served_by)
                    return answer

                return ask

            return await Failover(self._router, plan, call, account, prepare).serve()


def _estimated(facts: CountFacts, target: Target) -> CountTokensResponse:
    answer = CountTokensResponse(input_tokens=facts.input_tokens, estimated=True)
    answer.served_by.provider = target.provider
    answer.served_by.provider_model = target.provider_model
    return answer
