"""Turns for providers that know two roles: a system prompt, then user and assistant by turns."""

from collections.abc import Callable, Sequence
from typing import Final

from aigateway.v1.chat_service_pb2 import GenerationConfig
from aigateway.v1.content_pb2 import Message, Role
from aigateway.v1.usage_pb2 import Modality
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.providers.wire.rendering import Block

# Looked up once: it takes longer than all else that is done with a short turn.
USER: Final = Role.ROLE_USER
ASSISTANT: Final = Role.ROLE_ASSISTANT
TOOL: Final = Role.ROLE_TOOL

_ROLES: Final = {
    Role.ROLE_SYSTEM: "system",
    Role.ROLE_DEVELOPER: "system",
    USER: "user",
    ASSISTANT: "assistant",
    TOOL: "user",
}

#: Renders one turn of a role, which stands at a path of the request.
RenderTurn = Callable[[Message, Role.ValueType, str], list[Block]]


class Conversation:
    """Collects blocks turn by turn; neighbours of one role become one message."""

    def __init__(self, unsupported: Callable[[str], GatewayError], *, system_turns: bool) -> None:
        """``system_turns``: whether the model takes system turns between the others."""
        self.system: list[Block] = []
        self.messages: list[tuple[str, list[Block]]] = []
        self._unsupported = unsupported
        self._system_turns = system_turns
        #: Whether the last message holds nothing but tool results, so that more of them may follow.
        self._only_results = False

    def add(self, role: str, content: list[Block], *, are_results: bool) -> None:
        """Adds a turn of the role ``system``, ``user`` or ``assistant``; raises FEATURE_NOT_SUPPORTED.

        Results of tools come right after the calls, before anything else that the user says.
        """
        if role == "system" and not self.messages:
            self.system += content
            return
        last_role = self.messages[-1][0] if self.messages else ""
        if role == "system" and last_role != "system" and not self._system_turns:
            raise self._unsupported("system turns after the conversation has begun")
        if role == last_role:
            if are_results and not self._only_results:
                raise self._unsupported("user turns between tool calls and their results")
            self.messages[-1][1].extend(content)
        else:
            self.messages.append((role, content))
        self._only_results = are_results


def collect_turns(
    messages: Sequence[Message],
    render_turn: RenderTurn,
    unsupported: Callable[[str], GatewayError],
    *,
    system_turns: bool,
) -> Conversation:
    """All turns of a request, of which there must be more than the system prompt.

    System and developer turns before all others are the system prompt, in their order. Later ones keep
    their place, which only some models take: elsewhere they would have to move, and are refused. A turn
    in which the model said nothing is left out: the providers take none without content.
    """
    conversation = Conversation(unsupported, system_turns=system_turns)
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        role = message.role
        if role not in _ROLES:
            raise invalid_request(f"{path}.role", "is not a role")
        if message.author:
            raise unsupported("turns with an author's name")
        content = render_turn(message, role, path)
        if content:
            conversation.add(_ROLES[role], content, are_results=role == TOOL)
        elif role != ASSISTANT and not message.parts:
            raise invalid_request(f"{path}.parts", "is empty")
        elif role == USER:
            raise unsupported("user turns of empty text")
    if not conversation.messages:
        raise unsupported("conversations of system turns alone")
    return conversation


def require_one_text(config: GenerationConfig, unsupported: Callable[[str], GatewayError]) -> None:
    """Raises for what providers of one answer in text cannot be asked."""
    if config.HasField("choice_count") and config.choice_count > 1:
        raise unsupported("several answers to one request")
    if config.logprobs or config.HasField("top_logprobs"):
        raise unsupported("log probabilities")
    for modality in config.response_modalities:
        if modality not in Modality.values():
            raise invalid_request("generation_config.response_modalities", "holds an unknown modality")
        if modality != Modality.MODALITY_TEXT:
            name = Modality.Name(modality).removeprefix("MODALITY_").lower()
            raise unsupported(f"answers in {name}")
    if config.HasField("audio_output"):
        raise unsupported("answers in audio")
