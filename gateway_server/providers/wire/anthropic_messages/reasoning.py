"""How much a model thinks: the effort or the budget asked for, as its generation takes it."""

from dataclasses import dataclass, field
from typing import Final

from aigateway.v1.chat_service_pb2 import ReasoningConfig, ReasoningEffort
from gateway_server.errors import invalid_request
from gateway_server.providers.wire.anthropic_messages.context import RenderContext
from gateway_server.providers.wire.json_values import JsonObject

#: The fewest tokens that the provider takes as a budget.
MIN_BUDGET: Final = 1024

_EFFORTS: Final = {
    ReasoningEffort.REASONING_EFFORT_MINIMAL: "low",
    ReasoningEffort.REASONING_EFFORT_LOW: "low",
    ReasoningEffort.REASONING_EFFORT_MEDIUM: "medium",
    ReasoningEffort.REASONING_EFFORT_HIGH: "high",
    ReasoningEffort.REASONING_EFFORT_MAX: "max",
}
#: Budgets that stand for efforts where a model takes only budgets.
_BUDGETS: Final = {
    ReasoningEffort.REASONING_EFFORT_MINIMAL: MIN_BUDGET,
    ReasoningEffort.REASONING_EFFORT_LOW: 2048,
    ReasoningEffort.REASONING_EFFORT_MEDIUM: 8192,
    ReasoningEffort.REASONING_EFFORT_HIGH: 16384,
    ReasoningEffort.REASONING_EFFORT_MAX: 32768,
}


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the body says about thinking. ``budget`` is 0 unless a number of tokens is told."""

    thinking: JsonObject | None = None
    effort: str | None = None
    budget: int = field(default=0)

    @property
    def is_on(self) -> bool:
        """Whether the model was told to think."""
        return self.thinking is not None and self.thinking["type"] != "disabled"


#: Nothing is said, so that the model does as it likes.
NO_THINKING: Final = Thinking()


def render_reasoning(reasoning: ReasoningConfig, max_tokens: int | None, context: RenderContext) -> Thinking:
    """The thinking asked for. ``max_tokens`` is the limit of the answer where there is one."""
    match reasoning.WhichOneof("control"):
        case "effort":
            effort = reasoning.effort
            if effort == ReasoningEffort.REASONING_EFFORT_UNSPECIFIED:
                return NO_THINKING
            if effort == ReasoningEffort.REASONING_EFFORT_NONE:
                return _no_thinking(context)
            if effort not in _EFFORTS:
                raise invalid_request("reasoning.effort", "is not an effort")
            return _render_effort(reasoning, max_tokens, context)
        case "budget_tokens":
            if reasoning.budget_tokens == 0:
                return _no_thinking(context)
            return _render_budget(reasoning.budget_tokens, max_tokens, context)
        case _:
            return NO_THINKING


def _no_thinking(context: RenderContext) -> Thinking:
    return Thinking({"type": "disabled"}) if context.traits.thinking else NO_THINKING


def _render_effort(reasoning: ReasoningConfig, max_tokens: int | None, context: RenderContext) -> Thinking:
    if not context.traits.thinking:
        raise context.unsupported("reasoning")
    if not context.traits.adaptive_thinking:
        budget = _BUDGETS[reasoning.effort]
        if max_tokens is not None:
            # The thought and the answer share the limit.
            budget = max(min(budget, max_tokens // 2), MIN_BUDGET)
        return _render_budget(budget, max_tokens, context)
    thinking: JsonObject = {"type": "adaptive"}
    if reasoning.include_reasoning:
        # The newest models hide their thoughts unless asked.
        thinking["display"] = "summarized"
    return Thinking(thinking, _EFFORTS[reasoning.effort])


def _render_budget(budget: int, max_tokens: int | None, context: RenderContext) -> Thinking:
    if not context.traits.thinking:
        raise context.unsupported("reasoning")
    if not context.traits.thinking_budget:
        raise context.unsupported("a reasoning budget in tokens")
    if budget < MIN_BUDGET:
        raise context.unsupported(f"a reasoning budget of less than {MIN_BUDGET} tokens")
    if max_tokens is not None and budget >= max_tokens:
        raise context.unsupported(f"{budget} tokens of reasoning in {max_tokens} tokens of output")
    return Thinking({"type": "enabled", "budget_tokens": budget}, budget=budget)
