"""A spaCy pipeline as a function from a text to the persons and places that it names."""

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from spacy.language import Language

#: What can be found, named as Presidio names it.
ENTITY_TYPES: Final = ("PERSON", "LOCATION")
#: How sure a finding counts: models of entities do not tell, and this is what Presidio gives for spaCy's.
SCORE: Final = 0.85

#: Labels of spaCy's models: those trained on OntoNotes, and on WikiNER.
_LABELS: Final = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "LOCATION": "LOCATION",
    "FAC": "LOCATION",
}
#: What the components of spaCy's own pipelines do that is not for entities.
_FOR_OTHERS: Final = frozenset(
    {"tagger", "parser", "senter", "morphologizer", "attribute_ruler", "lemmatizer", "trainable_lemmatizer"}
)


class Entity(NamedTuple):
    """``text[start:end]`` names a person or a place."""

    start: int
    end: int
    entity_type: str


#: What one text names, in order, without overlaps.
Entities = tuple[Entity, ...]


class ModelError(OSError):
    """The model cannot be used; the message says why, and quotes no text that was looked at."""


def why_absent(name: str) -> str:
    """Why there is no model of this name, or in this folder, and what helps; empty when there is one."""
    if "/" in name or "\\" in name:
        return "" if (Path(name) / "config.cfg").is_file() else f"there is no spaCy model in {name}"
    try:
        is_there = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        is_there = False
    if is_there:
        return ""
    return f"the spaCy model {name} is not installed here: python -m spacy download {name}"


class EntityModel:
    """A loaded pipeline, for one thread."""

    def __init__(self, name: str) -> None:
        """Loads it, which takes seconds. Raises ModelError."""
        if why := why_absent(name):
            raise ModelError(why)
        import spacy  # noqa: PLC0415 -- see the package

        try:
            nlp = spacy.load(name)
        except Exception as error:
            raise ModelError(f"the spaCy model {name} cannot be loaded: {type(error).__name__}") from error
        labels = {label for labels in nlp.pipe_labels.values() for label in labels}
        if not labels & _LABELS.keys():
            raise ModelError(f"the spaCy model {name} finds neither persons nor places")
        nlp.select_pipes(disable=_not_needed(nlp))
        self._nlp = nlp

    def find(self, text: str) -> Entities:
        """The persons and places that a text names; the text alone decides, not what came before."""
        with self._forgetting():
            return tuple(
                Entity(each.start_char, each.end_char, _LABELS[each.label_])
                for each in self._nlp(text).ents
                if each.label_ in _LABELS
            )

    def _forgetting(self) -> AbstractContextManager[Any]:
        """Forgets the words of a text afterwards, which spaCy else keeps for ever; from spaCy 3.8 on."""
        zone = getattr(self._nlp, "memory_zone", None)
        return nullcontext() if zone is None else cast("Callable[[], AbstractContextManager[Any]]", zone)()


def _not_needed(nlp: "Language") -> list[str]:
    """What of a pipeline is not for its entities; nothing where it has components that are not spaCy's."""
    if set(nlp.pipe_names) - _FOR_OTHERS - {"tok2vec", "transformer", "ner"}:
        return []
    return [
        name
        for name in nlp.pipe_names
        if name in _FOR_OTHERS
        or (name == "tok2vec" and "ner" not in getattr(nlp.get_pipe(name), "listening_components", ["ner"]))
    ]


def find_all(model: EntityModel, texts: Sequence[str]) -> list[Entities]:
    """What each text names; one by one, since what a batch gives may depend on its other texts."""
    return [model.find(text) for text in texts]
