"""What tests of laws share: any JSON, bodies with one fault, any request, what holds for what was read."""

import os
from random import Random
from typing import Any, cast

from hypothesis import strategies as st

from aigateway.v1.chat_service_pb2 import ChatCompletion, CreateChatCompletionRequest, Tool
from aigateway.v1.content_pb2 import Message, Role
from aigateway.v1.usage_pb2 import Modality
from tests.sdk.completions import messages

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def examples(count: int) -> int:
    """How many examples of a law of one provider's format to try: all with FULL_LAWS=1, else half."""
    return count if os.environ.get("FULL_LAWS") == "1" else count // 2


def mutate(value: Any, random: Random, junk: Any) -> Any:
    """The value with one place in it replaced, dropped or doubled."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        kept = {name: item for name, item in value.items() if name != key}
        return kept if random.random() < 0.1 else {**kept, key: mutate(value[key], random, junk)}
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        changed = mutate(value[place], random, junk)
        return [*value[:place], changed, *([changed] if random.random() < 0.1 else []), *value[place + 1 :]]
    return junk


def readable(completion: ChatCompletion) -> None:
    """What was read can be sent to a caller: it survives the wire, and its sums hold."""
    assert ChatCompletion.FromString(completion.SerializeToString()) == completion
    usage = completion.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert min(usage.input_tokens - usage.cache_read_input_tokens, usage.output_tokens) >= 0


def clip(value: Any) -> Any:
    """Integers that JSON writers cannot write become the largest that they can."""
    if isinstance(value, dict):
        return {key: clip(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clip(item) for item in value]
    return max(min(value, 2**64 - 1), -(2**63)) if type(value) is int else value


@st.composite
def requests(draw: st.DrawFn) -> CreateChatCompletionRequest:
    """Any request, sensible or not, with unknown enum values among the others."""
    request = CreateChatCompletionRequest(model="any", end_user_id=draw(st.text(max_size=70)))
    for message in draw(st.lists(messages(Message.DESCRIPTOR), max_size=3)):
        # Half of all turns belong to the model, whose parts are the most varied.
        turn = cast(Message, message)
        turn.role = cast(Role.ValueType, draw(st.sampled_from([4, 4, 4, 1, 2, 3, 5, 0, 99])))
        request.messages.append(turn)
    request.tools.extend(cast(list[Tool], draw(st.lists(messages(Tool.DESCRIPTOR), max_size=2))))
    for field in ("tool_choice", "response_format", "reasoning", "storage_options"):
        if draw(st.booleans()):
            part = getattr(request, field)
            part.CopyFrom(draw(messages(part.DESCRIPTOR)))
    if draw(st.booleans()):
        config = request.generation_config
        config.temperature = draw(st.floats())
        config.logit_bias[draw(st.integers(0, 9))] = draw(st.floats())
        config.response_modalities.append(cast(Modality.ValueType, draw(st.sampled_from([0, 1, 2, 3, 99]))))
        config.stop_sequences.extend(draw(st.lists(st.text(max_size=3), max_size=6)))
    return request
