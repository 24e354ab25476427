"""Turns of the model, sent back as part of the conversation."""

import re
from dataclasses import dataclass, field
from typing import Final

from aigateway.v1.content_pb2 import ContentPart, Message, ReasoningPart, ToolCallPart
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.openai_chat.blocks import render_block, render_text
from gateway_server.providers.wire.openai_chat.context import RenderContext
from gateway_server.providers.wire.rendering import Block, misplaced

#: Prefix of ``ProviderPart.block_type`` for a tool call of a type that has no kind in the contract.
TOOL_CALL_BLOCK: Final = "tool_calls/"

#: Signatures of other providers bear a mark with a colon.
_AUDIO_ID: Final = re.compile(rb"[A-Za-z0-9_.-]+")


@dataclass(slots=True)
class _Turn:
    """What the parts of one turn amount to, by the field of the message that each goes to."""

    context: RenderContext
    content: list[Block] = field(default_factory=list)
    calls: list[Block] = field(default_factory=list)
    call_ids: set[str] = field(default_factory=set)
    reasoning: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    audio: JsonObject | None = None

    def add(self, part: ContentPart, path: str) -> None:
        match part.WhichOneof("kind"):
            case "text":
                self.content.append(render_text(part.text))
            case "tool_call":
                self._add_call(part.tool_call, f"{path}.tool_call")
            case "reasoning":
                self._add_reasoning(part.reasoning, is_signed=bool(part.provider_signature))
            case "refusal":
                self.refusals.append(part.refusal.text)
            case "audio":
                self._add_audio(part)
            case "provider":
                is_call = part.provider.block_type.startswith(TOOL_CALL_BLOCK)
                (self.calls if is_call else self.content).append(
                    render_block(part.provider, path, self.context)
                )
            case "image" | "video" | "document" as kind:
                raise self.context.unsupported(f"{kind} parts in assistant turns")
            case kind:
                raise misplaced(kind, path)

    def _add_call(self, call: ToolCallPart, path: str) -> None:
        if call.tool_call_id in self.call_ids:
            raise invalid_request(f"{path}.tool_call_id", "occurs twice in this turn")
        self.call_ids.add(call.tool_call_id)
        self.calls.append(_render_call(call, path, self.context))

    def _add_reasoning(self, reasoning: ReasoningPart, *, is_signed: bool) -> None:
        # A signature without words holds the whole thought.
        if reasoning.redacted_data or (is_signed and not reasoning.text):
            raise self.context.unsupported("sealed reasoning of another provider")
        if not reasoning.text:
            return
        if self.context.dialect.reasoning_key is None:
            raise self.context.unsupported("reasoning in earlier turns")
        self.reasoning.append(reasoning.text)

    def _add_audio(self, part: ContentPart) -> None:
        """What the model said goes back by the id that came with it."""
        if self.audio is not None:
            raise self.context.unsupported("several audio parts in one assistant turn")
        signature = part.provider_signature
        if not _AUDIO_ID.fullmatch(signature) or not self.context.dialect.audio_output:
            raise self.context.unsupported("audio in assistant turns that it did not answer itself")
        self.audio = {"id": signature.decode("ascii")}

    def render(self) -> JsonObject:
        message: JsonObject = {"role": "assistant"}
        if len(self.content) == 1 and isinstance(only := self.content[0], dict):
            message["content"] = only["text"]
        elif self.content:
            message["content"] = self.content
        elif not self.calls and not self.refusals and self.audio is None:
            message["content"] = ""
        if self.reasoning:
            message[str(self.context.dialect.reasoning_key)] = "\n".join(self.reasoning)
        if self.refusals:
            message["refusal"] = "\n".join(self.refusals)
        if self.audio is not None:
            message["audio"] = self.audio
        if self.calls:
            message["tool_calls"] = self.calls
        return message


def render_assistant(message: Message, path: str, context: RenderContext) -> JsonObject:
    """One message. It has one content and one list of calls: text that stands after a call goes before it."""
    turn = _Turn(context)
    for index, part in enumerate(message.parts):
        turn.add(part, f"{path}.parts[{index}]")
    rendered = turn.render()
    if message.author:
        rendered["name"] = message.author
    return rendered


def _render_call(call: ToolCallPart, path: str, context: RenderContext) -> JsonObject:
    if call.provider_executed:
        raise context.unsupported("tool calls that another provider ran itself")
    if not call.tool_call_id:
        raise invalid_request(f"{path}.tool_call_id", "is required")
    if not call.tool_name:
        raise invalid_request(f"{path}.tool_name", "is required")
    if call.free_form:
        if not context.dialect.free_form_tools:
            raise context.unsupported("free-form tools")
        custom = {"name": call.tool_name, "input": call.arguments}
        return {"id": call.tool_call_id, "type": "custom", "custom": custom}
    # Servers parse this text again; a call without arguments is an empty object to all of them.
    function = {"name": call.tool_name, "arguments": call.arguments or "{}"}
    return {"id": call.tool_call_id, "type": "function", "function": function}
