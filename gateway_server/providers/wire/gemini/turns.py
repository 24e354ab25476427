"""Turns of a conversation as system instruction and contents."""

from collections.abc import Sequence
from typing import Final

import orjson

from aigateway.v1 import content_pb2
from aigateway.v1.content_pb2 import ContentPart, Message, ToolCallPart
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.providers.wire.gemini.blocks import render_block, render_input
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.gemini.marks import is_made, open_signature
from gateway_server.providers.wire.gemini.media import render_media
from gateway_server.providers.wire.gemini.results import render_result
from gateway_server.providers.wire.json_values import JsonObject
from gateway_server.providers.wire.rendering import Block, json_object_text, misplaced

#: What the provider takes in place of a signature on calls that it did not make itself.
_NOT_SIGNED: Final = "skip_thought_signature_validator"


def render_turns(messages: Sequence[Message], context: RenderContext) -> JsonObject:
    """The keys ``systemInstruction`` and ``contents`` of a body.

    System and developer turns before all others are the system instruction, in their order. The format has
    no place for later ones; moving them would change what they say.
    """
    conversation = _Conversation(context)
    for index, message in enumerate(messages):
        conversation.add(message, f"messages[{index}]")
    return conversation.render()


class _Conversation:
    """Renders turn by turn; remembers the calls that later results answer."""

    def __init__(self, context: RenderContext) -> None:
        self._context = context
        self._system: list[Block] = []
        self._contents: list[JsonObject] = []
        #: Name of each call by its id, in order of the calls.
        self._calls: dict[str, str] = {}
        #: Results of neighbouring tool turns, with the ids of their calls.
        self._results: list[tuple[str, Block]] = []

    def add(self, message: Message, path: str) -> None:
        if not message.parts:
            raise invalid_request(f"{path}.parts", "is empty")
        if message.author:
            raise self._context.unsupported("turns with an author's name")
        if message.role != content_pb2.ROLE_TOOL:
            self._end_results()
        # Values of the module, not of the enum: looking one up there costs half a microsecond.
        match message.role:
            case content_pb2.ROLE_SYSTEM | content_pb2.ROLE_DEVELOPER:
                if self._contents:
                    raise self._context.unsupported("system turns after the conversation has begun")
                self._system += [
                    self._render_instruction(part, f"{path}.parts[{index}]")
                    for index, part in enumerate(message.parts)
                ]
            case content_pb2.ROLE_USER:
                parts = [
                    render_input(part, f"{path}.parts[{index}]", self._context)
                    for index, part in enumerate(message.parts)
                ]
                self._contents.append({"role": "user", "parts": parts})
            case content_pb2.ROLE_ASSISTANT:
                self._add_assistant(message, path)
            case content_pb2.ROLE_TOOL:
                self._add_results(message, path)
            case _:
                raise invalid_request(f"{path}.role", "is not a role")

    def render(self) -> JsonObject:
        self._end_results()
        if not self._contents:
            raise self._context.unsupported("conversations of system turns alone")
        body: JsonObject = {}
        if self._system:
            body["systemInstruction"] = {"parts": self._system}
        body["contents"] = self._contents
        return body

    def _render_instruction(self, part: ContentPart, path: str) -> Block:
        match part.WhichOneof("kind"):
            case "text":
                return {"text": part.text.text}
            case "provider":
                return render_block(part.provider, path, self._context)
            case "image" | "audio" | "video" | "document" as kind:
                raise self._context.unsupported(f"{kind} parts in system and developer turns")
            case kind:
                raise misplaced(kind, path)

    def _add_assistant(self, message: Message, path: str) -> None:
        parts: list[Block] = []
        has_calls = False
        for index, part in enumerate(message.parts):
            block = self._render_assistant_part(part, f"{path}.parts[{index}]")
            if block is None:
                continue
            if isinstance(block, dict):
                signature = open_signature(part.provider_signature) if part.provider_signature else None
                if signature is not None:
                    block["thoughtSignature"] = signature
                elif "functionCall" in block and not has_calls and self._context.traits.signed_calls:
                    # Of parallel calls the first alone is signed.
                    block["thoughtSignature"] = _NOT_SIGNED
                has_calls = has_calls or "functionCall" in block
            parts.append(block)
        # A turn of nothing but a hidden thought still stands between those of the user.
        self._contents.append({"role": "model", "parts": parts or [{"text": ""}]})

    def _render_assistant_part(self, part: ContentPart, path: str) -> Block | None:
        match part.WhichOneof("kind"):
            case "text":
                return {"text": part.text.text}
            case "tool_call":
                return self._render_call(part.tool_call, f"{path}.tool_call")
            case "reasoning":
                is_own = open_signature(part.provider_signature) is not None
                is_hidden = not part.reasoning.text and not is_own
                if part.reasoning.redacted_data or (is_hidden and part.provider_signature):
                    raise self._context.unsupported("sealed reasoning of another provider")
                if is_hidden:
                    return None
                return {"text": part.reasoning.text, "thought": True}
            case "refusal":
                # The provider declines in plain text.
                return {"text": part.refusal.text}
            case "image" | "audio" | "video" | "document":
                return render_media(part, path, self._context)
            case "provider":
                return render_block(part.provider, path, self._context)
            case "tool_result" if part.tool_result.provider_executed:
                raise self._context.unsupported("results of tools that another provider ran itself")
            case kind:
                raise misplaced(kind, path)

    def _render_call(self, call: ToolCallPart, path: str) -> JsonObject:
        if call.provider_executed:
            raise self._context.unsupported("tool calls that another provider ran itself")
        if call.free_form:
            raise self._context.unsupported("free-form tools")
        if not call.tool_call_id:
            raise invalid_request(f"{path}.tool_call_id", "is required")
        if not call.tool_name:
            raise invalid_request(f"{path}.tool_name", "is required")
        # Moved to the end where an earlier turn had the same id: results answer the last call before them.
        self._calls.pop(call.tool_call_id, None)
        self._calls[call.tool_call_id] = call.tool_name
        rendered: JsonObject = {"name": call.tool_name, "args": self._render_arguments(call, path)}
        if not is_made(call.tool_call_id):
            rendered["id"] = call.tool_call_id
        return {"functionCall": rendered}

    def _render_arguments(self, call: ToolCallPart, path: str) -> JsonObject | orjson.Fragment:
        if not call.arguments:
            return {}
        try:
            return json_object_text(call.arguments, f"{path}.arguments")
        except GatewayError as error:
            # What a model wrote need not be JSON; formats that carry arguments as text can send it on.
            raise self._context.unsupported("tool calls whose arguments are not a JSON object") from error

    def _add_results(self, message: Message, path: str) -> None:
        for index, part in enumerate(message.parts):
            at = f"{path}.parts[{index}]"
            if part.WhichOneof("kind") != "tool_result":
                raise invalid_request(at, "a tool turn holds only tool results")
            name = self._calls.get(part.tool_result.tool_call_id, "")
            block = render_result(part.tool_result, name, f"{at}.tool_result", self._context)
            self._results.append((part.tool_result.tool_call_id, block))

    def _end_results(self) -> None:
        """Writes the results of neighbouring tool turns as one content, as parallel calls want them."""
        if not self._results:
            return
        results, self._results = self._results, []
        parts = [block for _, block in results]
        # Without ids, calls and results are matched by their order.
        made = [place for place, (call_id, _) in enumerate(results) if is_made(call_id)]
        if len(made) > 1:
            order = {call_id: number for number, call_id in enumerate(self._calls)}
            in_order = sorted(made, key=lambda place: order.get(results[place][0], len(order)))
            for place, source in zip(made, in_order, strict=True):
                parts[place] = results[source][1]
        self._contents.append({"role": "user", "parts": parts})
