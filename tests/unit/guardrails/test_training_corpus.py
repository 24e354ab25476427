"""A model that is measured on a source has not seen it, not even inside another text."""

from tools.train_guardrails.attack_training import AttackCorpus
from tools.train_guardrails.texts import Text


def test_attacks_hidden_in_longer_texts_are_left_out_with_either_source() -> None:
    attack = Text("Do it.", attack=True, source="seen", kind="injection")
    hidden = Text("A page. Do it. The end.", attack=True, source="hidden_seen", kind="injection")
    corpus = AttackCorpus([attack, hidden], [[], []], [frozenset(), frozenset({"seen", "pages"})])

    assert corpus.without(()) == [0, 1]
    assert corpus.without({"pages"}) == [0]
    assert corpus.without({"seen"}) == []
