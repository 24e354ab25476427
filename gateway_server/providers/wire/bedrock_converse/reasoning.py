"""How much a model thinks, in the words that its maker chose: Converse itself has none but for an effort."""

from dataclasses import dataclass, field
from typing import Final

from aigateway.v1.chat_service_pb2 import ReasoningConfig, ReasoningEffort
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.anthropic_messages.context import RenderContext as ClaudeContext
from gateway_server.providers.wire.anthropic_messages.reasoning import NO_THINKING as NO_CLAUDE_THINKING
from gateway_server.providers.wire.anthropic_messages.reasoning import Thinking as ClaudeThinking
from gateway_server.providers.wire.anthropic_messages.reasoning import render_reasoning as render_claude
from gateway_server.providers.wire.bedrock_converse.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject

#: Models of other makers know three efforts.
_EFFORTS: Final = {
    ReasoningEffort.REASONING_EFFORT_MINIMAL: "low",
    ReasoningEffort.REASONING_EFFORT_LOW: "low",
    ReasoningEffort.REASONING_EFFORT_MEDIUM: "medium",
    ReasoningEffort.REASONING_EFFORT_HIGH: "high",
    ReasoningEffort.REASONING_EFFORT_MAX: "high",
}


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the body says about thinking: fields of the model, an effort, and what Claude's rules need."""

    fields: JsonObject = field(default_factory=dict)
    effort: str | None = None
    claude: ClaudeThinking = NO_CLAUDE_THINKING


NO_THINKING: Final = Thinking()


def render_reasoning(reasoning: ReasoningConfig, limit: int | None, context: RenderContext) -> Thinking:
    """The thinking asked for. ``limit`` is that of the answer where there is one."""
    claude = context.traits.claude
    if claude is not None:
        thinking = render_claude(reasoning, limit, ClaudeContext(context.target, claude))
        fields = {} if thinking.thinking is None else {"thinking": thinking.thinking}
        return Thinking(fields, thinking.effort, thinking)
    match reasoning.WhichOneof("control"):
        case "effort":
            return _render_effort(reasoning.effort, context)
        case "budget_tokens":
            if reasoning.budget_tokens == 0:
                return _render_effort(ReasoningEffort.REASONING_EFFORT_NONE, context)
            raise context.unsupported("a reasoning budget in tokens")
        case _:
            return NO_THINKING


def _render_effort(effort: ReasoningEffort.ValueType, context: RenderContext) -> Thinking:
    if effort == ReasoningEffort.REASONING_EFFORT_UNSPECIFIED:
        return NO_THINKING
    is_off = effort == ReasoningEffort.REASONING_EFFORT_NONE
    if not is_off and effort not in _EFFORTS:
        raise invalid_request("reasoning.effort", "is not an effort")
    match context.traits.thinking:
        case "nova" if is_off:
            return Thinking({"reasoningConfig": {"type": "disabled"}})
        case "nova":
            return Thinking({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": _EFFORTS[effort]}})
        case "reasoning_config" | "reasoning_effort" as key if not is_off:
            return Thinking({key: _EFFORTS[effort]})
        case _:
            raise context.unsupported("being told not to reason" if is_off else "a reasoning effort")
