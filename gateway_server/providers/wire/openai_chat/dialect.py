"""In what the servers that speak OpenAI's chat format differ."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one kind of server takes and how it calls it. The defaults are OpenAI's own."""

    #: Key of provider_options and of provider parts.
    provider_type: str

    #: Where the limit of the output goes. OpenAI's reasoning models refuse ``max_tokens``.
    output_limit_key: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"

    #: Where the id of the end user goes. OpenAI replaced ``user`` by ``safety_identifier``, which holds up to
    #: 64 characters.
    end_user_key: Literal["safety_identifier", "user"] = "safety_identifier"

    #: What developer turns are called. Templates of open models often know no ``developer``.
    developer_role: Literal["developer", "system"] = "developer"

    #: The field of an assistant turn that takes reasoning back; None where the server takes none.
    reasoning_key: Literal["reasoning", "reasoning_content"] | None = None

    #: The most stop sequences; None where there is no limit.
    max_stop_sequences: int | None = 4

    #: Whether ``stream_options`` may be sent, without which no usage comes with a stream.
    stream_options: bool = True

    #: Whether it samples by ``top_k``.
    top_k: bool = False

    #: Whether it knows tools whose input is any text.
    free_form_tools: bool = True

    #: Whether the choice may be limited to several of the tools.
    allowed_tools: bool = True

    #: Whether it can search the web for the model.
    web_search: bool = True

    #: Whether it reads documents.
    documents: bool = True

    #: Whether it writes sound.
    audio_output: bool = True

    #: Whether it takes ``audio_url`` and ``video_url``: sound by address or of any type, moving pictures.
    media_urls: bool = False

    #: Whether it keeps answers and shares prompt caches on request.
    storage: bool = True
