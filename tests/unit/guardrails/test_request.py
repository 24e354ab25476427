"""What of a request is read, and what is left of it where something is masked."""

import pytest

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Citation, ContentPart, Message, Role, TextPart
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.guardrails.request import RequestGuard
from gateway_server.guardrails.rules import Tally, compile_profile
from tests.support.text_models import WordModels

MASK = GuardrailRule(
    rule_id="pii",
    action=GuardrailAction.GUARDRAIL_ACTION_REDACT,
    pii=PiiDetector(entity_types=["EMAIL_ADDRESS"]),
)
MAIL = "jo@acme.io"
WORDY = b'{"bedrock": {"sourceContent": [{"text": "by %s"}]}}' % MAIL.encode()


def guarded(citation: Citation) -> Citation:
    """What goes to the model of a citation in an earlier turn."""
    part = ContentPart(text=TextPart(text="Ask.", citations=[citation]))
    request = CreateChatCompletionRequest(messages=[Message(role=Role.ROLE_ASSISTANT, parts=[part])])
    profile = compile_profile(GuardrailProfile(name="p", input_rules=[MASK]), WordModels)
    RequestGuard([Tally(rule) for rule in profile.input_rules], None).apply(request)
    return request.messages[0].parts[0].text.citations[0]


@pytest.mark.parametrize(
    "citation",
    [
        Citation(cited_text=f"by {MAIL}", provider_signature=WORDY),
        Citation(title=MAIL, provider_signature=b"opaque"),
        Citation(uri=f"https://acme.io/?to={MAIL}", provider_signature=b"opaque"),
        Citation(title="what only the signature says", provider_signature=WORDY),
    ],
    ids=["words", "title", "address", "signature"],
)
def test_nothing_of_an_earlier_citation_says_what_is_masked(citation: Citation) -> None:
    left = guarded(citation)
    assert MAIL.encode() not in left.SerializeToString()
    assert not left.provider_signature


@pytest.mark.parametrize("signature", [b'{"index": "Eo8B"}', b"\xff\xfe", b"{\xff"])
def test_an_earlier_citation_in_which_nothing_is_found_goes_as_it_came(signature: bytes) -> None:
    citation = Citation(cited_text="by nobody", title="t", provider_signature=signature)
    assert guarded(citation) == citation
