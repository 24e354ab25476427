"""How much the model should think, by whichever of its two measures it takes."""

from typing import Final

from aigateway.v1.chat_service_pb2 import ReasoningConfig, ReasoningEffort
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.gemini.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject

#: Models of the third generation take a level.
_LEVELS: Final = {
    ReasoningEffort.REASONING_EFFORT_LOW: "LOW",
    ReasoningEffort.REASONING_EFFORT_MEDIUM: "MEDIUM",
    ReasoningEffort.REASONING_EFFORT_HIGH: "HIGH",
    ReasoningEffort.REASONING_EFFORT_MAX: "HIGH",
}
#: Earlier ones take tokens. The least that all of them take; then what Google's own surface in OpenAI's
#: format makes of the same words.
_BUDGETS: Final = {
    ReasoningEffort.REASONING_EFFORT_MINIMAL: 512,
    ReasoningEffort.REASONING_EFFORT_LOW: 1_024,
    ReasoningEffort.REASONING_EFFORT_MEDIUM: 8_192,
    ReasoningEffort.REASONING_EFFORT_HIGH: 24_576,
}


def render_reasoning(reasoning: ReasoningConfig, context: RenderContext) -> JsonObject:
    """The ``thinkingConfig``, empty where nothing is to be said."""
    rendered: JsonObject = {}
    match reasoning.WhichOneof("control"):
        case "effort":
            rendered |= _render_effort(reasoning.effort, context)
        case "budget_tokens":
            rendered |= _render_budget(reasoning.budget_tokens, context)
        case _:
            pass
    # Models that do not think refuse to be asked for their thoughts.
    if reasoning.include_reasoning and context.traits.thinking:
        rendered["includeThoughts"] = True
    return rendered


def _render_effort(effort: ReasoningEffort.ValueType, context: RenderContext) -> JsonObject:
    if effort not in ReasoningEffort.values():
        raise invalid_request("reasoning.effort", "is not an effort")
    if effort == ReasoningEffort.REASONING_EFFORT_UNSPECIFIED:
        return {}
    if effort == ReasoningEffort.REASONING_EFFORT_NONE:
        # No level means none; models that always think refuse it.
        return _render_budget(0, context)
    traits = context.traits
    if not traits.thinking:
        raise context.unsupported("reasoning")
    if traits.lowest_thinking_level is not None:
        return {"thinkingLevel": _LEVELS.get(effort, traits.lowest_thinking_level)}
    return {"thinkingBudget": _BUDGETS.get(effort, traits.largest_thinking_budget)}


def _render_budget(tokens: int, context: RenderContext) -> JsonObject:
    if context.traits.thinking:
        return {"thinkingBudget": tokens}
    if tokens:
        raise context.unsupported("reasoning")
    return {}
