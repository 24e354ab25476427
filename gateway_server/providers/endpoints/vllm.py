"""vLLM, and any other server that follows OpenAI's API: SGLang, llama.cpp, LM Studio, Ollama and so on."""

from typing import Literal

from gateway_server.providers.base import Credential, ProviderConfig
from gateway_server.providers.config import ConfigReader, read_base_url
from gateway_server.providers.endpoints.openai_compatible import OpenAICompatibleEndpoint
from gateway_server.providers.wire.openai_chat import Dialect, OpenAIChatFormat
from gateway_server.providers.wire.openai_embeddings import OpenAIEmbeddingsFormat

PROVIDER_TYPE = "vllm"

_ReasoningKey = Literal["reasoning", "reasoning_content", "none"]


def build(base_url: str, credential: Credential, config: ProviderConfig) -> OpenAICompatibleEndpoint:
    """Needs a base URL; a credential only if the server was started with one.

    Settings: ``output_limit_key``; ``reasoning_key``, the field of earlier turns that takes reasoning back;
    ``developer_role``, what developer turns are called; ``stream_options``, false where it is refused.
    """
    settings = ConfigReader(config)
    reasoning_keys: tuple[_ReasoningKey, ...] = ("reasoning", "reasoning_content", "none")
    reasoning_key = settings.choice("reasoning_key", reasoning_keys)
    dialect = Dialect(
        provider_type=PROVIDER_TYPE,
        output_limit_key=settings.choice("output_limit_key", ("max_tokens", "max_completion_tokens")),
        end_user_key="user",
        developer_role=settings.choice("developer_role", ("system", "developer")),
        reasoning_key=None if reasoning_key == "none" else reasoning_key,
        max_stop_sequences=None,
        stream_options=settings.flag("stream_options", default=True),
        top_k=True,
        free_form_tools=False,
        allowed_tools=False,
        web_search=False,
        documents=False,
        audio_output=False,
        media_urls=True,
        storage=False,
    )
    settings.finish()
    return OpenAICompatibleEndpoint(
        chat_format=OpenAIChatFormat(dialect),
        embeddings_format=OpenAIEmbeddingsFormat(PROVIDER_TYPE),
        base_url=read_base_url(base_url),
        credential=credential,
        credential_required=False,
    )
