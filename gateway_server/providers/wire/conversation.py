"""Turns for providers that know two roles: a system prompt, then user and assistant by turns."""

from collections.abc import Callable

from gateway_server.errors import GatewayError
from gateway_server.providers.wire.rendering import Block


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
