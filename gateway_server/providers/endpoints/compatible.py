"""Any hosted service that follows OpenAI's API: an address, a bearer token, and only the plain parts."""

from typing import Literal

from gateway_server.providers.base import Credential, ProviderConfig
from gateway_server.providers.config import ConfigReader, read_base_url
from gateway_server.providers.endpoints.openai_compatible import OpenAICompatibleEndpoint
from gateway_server.providers.wire.openai_chat import Dialect, OpenAIChatFormat
from gateway_server.providers.wire.openai_embeddings import OpenAIEmbeddingsFormat
from gateway_server.providers.wire.openai_moderations import OpenAIModerationFormat

PROVIDER_TYPE = "openai_compatible"

_ReasoningKey = Literal["none", "reasoning", "reasoning_content"]


def build(base_url: str, credential: Credential, config: ProviderConfig) -> OpenAICompatibleEndpoint:
    """Needs a base URL and a credential.

    Settings as for vLLM: ``output_limit_key``, ``stream_options``, and ``reasoning_key``, which is ``none``
    unless it is set: many services refuse thoughts, some want them back in the field that they have for them.
    """
    settings = ConfigReader(config)
    reasoning_keys: tuple[_ReasoningKey, ...] = ("none", "reasoning", "reasoning_content")
    reasoning_key = settings.choice("reasoning_key", reasoning_keys)
    dialect = Dialect(
        provider_type=PROVIDER_TYPE,
        output_limit_key=settings.choice("output_limit_key", ("max_tokens", "max_completion_tokens")),
        end_user_key="user",
        developer_role="system",
        reasoning_key=None if reasoning_key == "none" else reasoning_key,
        stream_options=settings.flag("stream_options", default=True),
        free_form_tools=False,
        allowed_tools=False,
        web_search=False,
        documents=False,
        audio_output=False,
        storage=False,
    )
    settings.finish()
    return OpenAICompatibleEndpoint(
        chat_format=OpenAIChatFormat(dialect),
        embeddings_format=OpenAIEmbeddingsFormat(PROVIDER_TYPE),
        moderation_format=OpenAIModerationFormat(),
        base_url=read_base_url(base_url),
        credential=credential,
    )
