r"""Kinds of personal data that an operator adds, from a file of recognizers as Presidio reads them.

    recognizers:
      - name: Employee number
        supported_entity: EMPLOYEE_ID
        patterns:
          - {name: badge, regex: '\bE-\d{6}\b', score: 0.6}
        context: [employee, badge]

Presidio's "no-code" format: https://microsoft.github.io/presidio/tutorial/08_no_code/. Presidio reads it; its
patterns are run by RE2, without regard to case, in time linear in the text. As those of all kinds, values are
looked for where digits are: they begin in the word with the first digit, and have at most 43 characters. A
pattern of other values would find nothing and say nothing, so it is refused where that can be told.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import re2
import yaml

from gateway_server.guardrails.ner.model import ENTITY_TYPES
from gateway_server.guardrails.pii import RECOGNIZERS, Found, PiiScanner, scan, spans
from gateway_server.guardrails.pii.blocks import TRIGGER
from gateway_server.guardrails.pii.matches import LONGEST, Match, Recognizer
from gateway_server.guardrails.pii.presidio import score_in_context, told_before
from gateway_server.guardrails.pii.samples import samples_of

if TYPE_CHECKING:
    from presidio_analyzer import PatternRecognizer

_BUILT_IN: Final = frozenset({*RECOGNIZERS, *ENTITY_TYPES})
#: What placeholders can be restored by.
_ENTITY: Final = re.compile(r"[A-Z][A-Z_]{0,39}")
#: What a pattern has that matches digits, as far as that is seen without running it.
_DIGITS: Final = re.compile(r"\\[dwS]|[0-9]|\[:(?:digit|alnum|xdigit)|\[\^|(?<!\\)\.")
_MAX_MEMORY: Final = 8 * 2**20
#: How values stand in texts.
_AROUND: Final = ("see {}.", "see {} now", "{}", "{}\n")
_ALLOWED: Final = (
    f"values begin in a word with a digit, have at most {LONGEST} characters, spaces only between digits, "
    'and none of "|\\<>'
)


@dataclass(frozen=True, slots=True)
class AddedKind:
    """One kind: what finds its values, and the most that these can score."""

    recognize: Recognizer
    highest_score: float


@dataclass(frozen=True, slots=True)
class _Pattern:
    compiled: "re2._Regexp[str]"
    score: float
    context: tuple[str, ...]


def read_added_kinds(file: Path) -> Mapping[str, AddedKind]:
    """The kinds of a file, by name. Raises OSError, and ValueError that says what in it is wrong."""
    from presidio_analyzer import PatternRecognizer  # noqa: PLC0415 -- takes seconds

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    listed = content.get("recognizers") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{file} has no list of recognizers")
    patterns: dict[str, list[_Pattern]] = {}
    for index, each in enumerate(listed):
        if not isinstance(each, dict) or len(each.get("supported_entities") or ()) > 1:
            raise ValueError(f"{file}: recognizers[{index}]: is no mapping, or of several entities")
        try:
            entity_type, found = _patterns_of(PatternRecognizer.from_dict(each))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{file}: recognizers[{index}]: {error}") from None
        patterns.setdefault(entity_type, []).extend(found)
    return {
        entity_type: AddedKind(
            partial(_recognize, entity_type, tuple(found)),
            max(score_in_context(pattern.score, told=bool(pattern.context)) for pattern in found),
        )
        for entity_type, found in patterns.items()
    }


def _patterns_of(recognizer: "PatternRecognizer") -> tuple[str, list[_Pattern]]:
    """What it finds, and how. Raises ValueError for what cannot be found here."""
    [entity_type] = recognizer.supported_entities
    if not _ENTITY.fullmatch(str(entity_type)):
        raise ValueError(f"supported_entity {entity_type} must be at most 40 capitals and underscores")
    if entity_type in _BUILT_IN:
        raise ValueError(f"{entity_type} is there already")
    context = _words_of(recognizer.context)
    # Presidio makes a pattern of the deny list, for an engine that looks behind.
    listed = "|".join(map(_whole, recognizer.deny_list))
    written = [
        (listed, recognizer.deny_list_score)
        if pattern.name == "deny_list" and listed
        else (pattern.regex, pattern.score)
        for pattern in recognizer.patterns  # type: ignore[has-type]
    ]
    if not all(0 < float(score) <= 1 for _, score in written):
        raise ValueError("score must be above 0, and at most 1")
    found = [_Pattern(_compiled(regex), float(score), context) for regex, score in written]
    for pattern, (regex, _) in zip(found, written, strict=True):
        if regex != listed:
            _require_found(pattern, regex, str(entity_type))
    for word in recognizer.deny_list:
        scanner = PiiScanner([partial(_recognize, str(entity_type), tuple(found))])
        if [piece for piece in scan(scanner, f"see {word}.") if isinstance(piece, Found)] != [
            Found(word, str(entity_type), float(recognizer.deny_list_score))
        ]:
            raise ValueError(f"deny_list: {word} would not be found: {_ALLOWED}")
    return str(entity_type), found


def _require_found(pattern: _Pattern, regex: str, entity_type: str) -> None:
    """Raises ValueError where a pattern matches what is never looked at, as far as samples tell that."""
    recognizers = [partial(_recognize, entity_type, (pattern,))]
    for sample in samples_of(regex):
        value = sample.strip()
        if not TRIGGER.search(value):
            continue  # other values have a digit
        for around in _AROUND:
            text, start = around.format(sample), around.index("{")
            place = range(text.index(value, start), text.index(value, start) + len(value))
            if _covers([match.span() for match in pattern.compiled.finditer(text)], place) and not _covers(
                [(match.start, match.end) for match in spans(scan(PiiScanner(recognizers), text))], place
            ):
                raise ValueError(f"{regex}: {value} would not be found in {text!r}: {_ALLOWED}")


def _covers(found: Iterable[tuple[int, int]], place: range) -> bool:
    return any(start <= place.start and place.stop <= end for start, end in found)


def _whole(word: str) -> str:
    """A pattern of a word that letters and digits at its ends do not go on from."""
    begin, end = (r"\b" if character.isalnum() else "" for character in (word[:1], word[-1:]))
    return f"{begin}{re2.escape(word)}{end}"


def _words_of(context: object) -> tuple[str, ...]:
    """In small letters. Raises ValueError: Presidio takes anything."""
    words = [] if context is None else context
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise ValueError("context must be a list of words")
    return tuple(word.lower() for word in words)


def _compiled(regex: str) -> "re2._Regexp[str]":
    options = re2.Options()
    options.case_sensitive = False
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    try:
        compiled = re2.compile(f"(?m:{regex})", options)  # as Presidio does: ^ and $ stand at lines too
    except re2.error as error:
        raise ValueError(f"{regex}: RE2 does not take it: {error}") from None
    if compiled.fullmatch(""):
        raise ValueError(f"{regex}: matches nothing at all too")
    if not _DIGITS.search(regex):
        raise ValueError(f"{regex}: matches no digit, where values are looked for")
    return compiled


def _recognize(entity_type: str, patterns: tuple[_Pattern, ...], text: str, start: int) -> Iterator[Match]:
    for pattern in patterns:
        for found in pattern.compiled.finditer(text, start):
            # White space around a value is no part of it, and may be outside of what is looked at.
            value = found.group().strip()
            if 0 < len(value) <= LONGEST:
                begin = text.index(value, found.start())
                told = told_before(text, begin, pattern.context)
                score = score_in_context(pattern.score, told=told)
                yield Match(begin, begin + len(value), entity_type, score)
