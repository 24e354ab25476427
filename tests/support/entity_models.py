"""Small spaCy pipelines, written to folders: real ones, whose patterns or training texts stand here."""

import warnings
from pathlib import Path
from typing import Any

PERSONS = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "John F. Kennedy", "Jean-Luc Picard")
PLACES = ("Berlin", "Paris", "New York")

#: What a model is trained on: it has to learn where the names stand, and sees others than it is asked about.
_FRAMES = (
    "My name is {}.",
    "I met {} in {}.",
    "Please ask {} about the order from {}.",
    "{} lives in {} now.",
    "Write to {} or call.",
    "The weather was nice yesterday.",
    "Dear {}, thank you for the order.",
)


def write_rules(folder: Path) -> str:
    """A pipeline that finds ``PERSONS`` and ``PLACES`` by rules, and companies; gives its folder's name."""
    import_spacy()
    import spacy

    nlp = spacy.blank("en")
    ruler: Any = nlp.add_pipe("entity_ruler")
    ruler.add_patterns(
        [{"label": "PERSON", "pattern": name} for name in PERSONS]
        + [{"label": "GPE", "pattern": name} for name in PLACES]
        + [{"label": "ORG", "pattern": "Acme"}]
    )
    nlp.to_disk(folder)
    return str(folder)


def write_trained(folder: Path) -> str:
    """A pipeline with a small network that was trained on a few sentences; gives its folder's name."""
    import_spacy()
    import random

    import spacy
    from spacy.training import Example
    from thinc.util import fix_random_seed

    fix_random_seed(1)
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    examples = [Example.from_dict(nlp.make_doc(text), {"entities": spans}) for text, spans in _training()]
    nlp.initialize(lambda: examples)
    draw = random.Random(1)
    for _ in range(10):
        draw.shuffle(examples)
        for start in range(0, len(examples), 12):
            nlp.update(examples[start : start + 12], drop=0.1)
    nlp.to_disk(folder)
    return str(folder)


def import_spacy() -> None:
    """Imports it without the warnings of what it imports, which are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spacy.training  # noqa: F401


def _training() -> list[tuple[str, list[tuple[int, int, str]]]]:
    first, last = ("Ben", "Eva", "Tom", "Mia"), ("Stone", "Rivers", "Wood")
    persons = [f"{one} {other}" for one in first for other in last]
    texts = []
    for index, person in enumerate(persons):
        for frame in _FRAMES:
            labelled = zip((person, PLACES[index % len(PLACES)]), ("PERSON", "GPE"), strict=True)
            text, spans = frame, []
            for value, label in labelled:
                if "{}" in text:
                    place = text.index("{}")
                    text = text.replace("{}", value, 1)
                    spans.append((place, place + len(value), label))
            texts.append((text, spans))
    return texts
