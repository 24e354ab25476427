"""OpenAI itself, and companies that serve its API unchanged at another address."""

from gateway_server.providers.base import Credential, ProviderConfig
from gateway_server.providers.config import ConfigReader, read_base_url
from gateway_server.providers.endpoints.openai_compatible import OpenAICompatibleEndpoint
from gateway_server.providers.wire.openai_chat import Dialect, OpenAIChatFormat
from gateway_server.providers.wire.openai_embeddings import OpenAIEmbeddingsFormat
from gateway_server.providers.wire.openai_moderations import OpenAIModerationFormat

PROVIDER_TYPE = "openai"


def build(base_url: str, credential: Credential, config: ProviderConfig) -> OpenAICompatibleEndpoint:
    """Settings: ``organization`` and ``project`` to bill; ``output_limit_key`` for older servers."""
    settings = ConfigReader(config)
    headers = (
        (b"openai-organization", settings.header_value("organization").encode()),
        (b"openai-project", settings.header_value("project").encode()),
    )
    dialect = Dialect(
        provider_type=PROVIDER_TYPE,
        output_limit_key=settings.choice("output_limit_key", ("max_completion_tokens", "max_tokens")),
    )
    settings.finish()
    return OpenAICompatibleEndpoint(
        chat_format=OpenAIChatFormat(dialect),
        embeddings_format=OpenAIEmbeddingsFormat(PROVIDER_TYPE),
        moderation_format=OpenAIModerationFormat(),
        base_url=read_base_url(base_url, default="https://api.openai.com/v1"),
        credential=credential,
        extra_headers=tuple(header for header in headers if header[1]),
    )
