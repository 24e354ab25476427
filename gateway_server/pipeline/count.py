"""One count of a conversation's tokens: by the provider where it counts, else estimated here."""

from typing import Final

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CountTokensResponse
from aigateway.v1.model_pb2 import ModelCapability
from gateway_server.call import CallContext
from gateway_server.pipeline.account import Accounts
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.providers.base import CountTokensEndpoint
from gateway_server.router.router import Router, options_of
from gateway_server.usage.ceiling import NOTHING
from gateway_server.usage.estimate import estimate_input_tokens

_CHAT: Final = ModelCapability.MODEL_CAPABILITY_CHAT


class CountPipeline:
    """Serves counts: choose a target, ask it or estimate, settle. Providers bill nothing for a count."""

    def __init__(self, *, router: Router, upstream: Upstream, accounts: Accounts) -> None:
        self._router = router
        self._upstream = upstream
        self._accounts = accounts

    async def count(self, request: CountTokensRequest, call: CallContext) -> CountTokensResponse:
        """The input tokens of the conversation."""
        with self._accounts.open(call, model=request.model) as account:
            candidate = self._router.choose(
                request.model, call.principal, options=options_of(request), capability=_CHAT
            )
            endpoint, target = candidate.endpoint, candidate.target
            await account.admit(candidate.names, tokens=0)
            if not isinstance(endpoint, CountTokensEndpoint):
                answer = CountTokensResponse(
                    input_tokens=estimate_input_tokens(request.messages, request.tools), estimated=True
                )
                answer.served_by.provider = target.provider
                answer.served_by.provider_model = target.provider_model
                return answer
            count_format = endpoint.count_format
            body = count_format.render_count(request, target)
            http_call = endpoint.count_call(target, body, options=request.provider_options)
            with await account.attempt(target, NOTHING, lambda: None) as attempt:
                async with await self._upstream.send(http_call, call) as response:
                    attempt.http_status = response.status
                    if response.status != 200:
                        data = await read_error_body(response)
                        raise count_format.parse_error(response.status, response.headers, data, target)
                    data = await response.read()
                answer = count_format.parse_count(data, target)
                attempt.take_served_by(answer.served_by)
            return answer
