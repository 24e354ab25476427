"""The demo provider, which lives in this process: see ``providers/demo``."""

from gateway_server.providers.base import Credential, ProviderConfig
from gateway_server.providers.config import ConfigReader, refuse_base_url
from gateway_server.providers.demo import DEMO_URL
from gateway_server.providers.endpoints.openai_compatible import OpenAICompatibleEndpoint
from gateway_server.providers.wire.openai_chat import Dialect, OpenAIChatFormat
from gateway_server.providers.wire.openai_embeddings import OpenAIEmbeddingsFormat

PROVIDER_TYPE = "demo"


def build(base_url: str, credential: Credential, config: ProviderConfig) -> OpenAICompatibleEndpoint:
    """Has neither address, nor credential, nor settings."""
    refuse_base_url(base_url)
    ConfigReader(config).finish()
    return OpenAICompatibleEndpoint(
        chat_format=OpenAIChatFormat(Dialect(provider_type=PROVIDER_TYPE)),
        embeddings_format=OpenAIEmbeddingsFormat(PROVIDER_TYPE),
        base_url=DEMO_URL,
        credential=credential,
        credential_required=False,
    )
