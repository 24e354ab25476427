"""What was judged is not judged again, and only so much is remembered."""

from collections import Counter

from gateway_server.guardrails.score_cache import CachedModels
from tests.support.text_models import Scores, WordModels


class Counting(WordModels):
    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def attack(self, text: str) -> Scores:
        self.asked[text] += 1
        return super().attack(text)


def test_a_text_is_judged_once_as_long_as_it_is_remembered() -> None:
    counting = Counting()
    models = CachedModels(counting, size=2)
    assert [models.attack(text).injection for text in ("a", "INJECTION", "a")] == [0.1, 0.9, 0.1]
    assert counting.asked == {"a": 1, "INJECTION": 1}
    models.attack("c \ud800")  # INJECTION was used longest ago
    models.attack("a")
    models.attack("INJECTION")
    assert counting.asked == {"a": 1, "INJECTION": 2, "c \ud800": 1}


def test_each_kind_of_score_is_remembered_by_itself() -> None:
    models = CachedModels(WordModels())
    assert models.attack("HATE").injection == 0.1
    assert models.moderation("HATE")["hate"] == 0.9
