"""What is measured: one request, answered whole or as a stream of deltas."""

from dataclasses import dataclass
from typing import Final

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest

SERVICE: Final = "aigateway.v1.ChatService"

_QUESTION: Final = (
    "Who counts the ships that pass a lighthouse by night, and to what end? Answer in one sentence."
)


#: Prose with what guardrails stop at: numbers, a date, an address of a page, somebody to write to.
_PROSE: Final = (
    "On 12 May 2024 the keeper counted 1,204 ships, 17 under sail; see https://example.com/log?page=3 "
    "for the list. The lamp burns 2.5 litres of oil in a night, and the horn sounds at 06:30. Please answer "
    "in one sentence, and say which of the numbers you have used."
)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of call. The model's name tells the upstream how to answer."""

    name: str
    model: str
    deltas: int = 0
    #: How long the question is; 0 for the usual one.
    characters: int = 0

    @property
    def is_stream(self) -> bool:
        """Whether the answer is streamed."""
        return self.deltas > 0

    @property
    def path(self) -> str:
        """The RPC."""
        return f"/{SERVICE}/{'StreamChatCompletion' if self.is_stream else 'CreateChatCompletion'}"

    @property
    def token(self) -> str:
        """What the first token of the answer holds."""
        return delta_text(0).strip() if self.is_stream else "lighthouse"

    def request(self) -> CreateChatCompletionRequest:
        """The request, the same for everyone who is measured."""
        request = CreateChatCompletionRequest(model=self.model)
        request.messages.add(role="ROLE_SYSTEM").parts.add().text.text = "You are brief and exact."
        question = _QUESTION
        if self.characters:
            question = (f"{_PROSE} " * (self.characters // len(_PROSE) + 1))[: self.characters]
        request.messages.add(role="ROLE_USER").parts.add().text.text = question
        request.generation_config.max_output_tokens = 256
        request.generation_config.temperature = 0.5
        return request


UNARY: Final = Case("unary", "bench-unary")
BURST: Final = Case("64 deltas in a burst", "bench-burst-64", deltas=64)
PACED: Final = Case("64 deltas, 5 ms apart", "bench-paced-64-5ms", deltas=64)
CASES: Final = (UNARY, BURST, PACED)


_LETTERS: Final = str.maketrans("0123456789", "abcdefghij")


def delta_text(index: int) -> str:
    """The text of a delta, as the upstream writes it: a word of prose, without digits to hold back."""
    return f"word{f'{index:03d}'.translate(_LETTERS)} "


def parse_stream_model(model: str) -> tuple[int, float]:
    """How many deltas a model streams, and how many seconds apart."""
    match model.split("-"):
        case ["bench", "burst", deltas]:
            return int(deltas), 0.0
        case ["bench", "paced", deltas, pause]:
            return int(deltas), int(pause.removesuffix("ms")) / 1000
    raise ValueError(f"{model} is no model of the benchmark")
