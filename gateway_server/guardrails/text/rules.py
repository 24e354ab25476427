"""Attacks that are written so plainly that a pattern tells them: each has harmless twins in the tests.

The patterns are RE2's and read normalised text: lower case, Latin letters without marks, single spaces.
"""

# ruff: noqa: RUF001 - other scripts are meant.

from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Final, Protocol

import re2


class Kind(Enum):
    """What a rule finds."""

    INJECTION = "injection"
    JAILBREAK = "jailbreak"


class _Pattern(Protocol):
    def search(self, text: str) -> object: ...

    def sub(self, replacement: str, text: str) -> str: ...


_IGNORE: Final = """
    ignore disregard forget override bypass do[_]not[_]follow don't[_]follow stop[_]following ignoriere
    ignorieren[_]sie vergiss vergessen[_]sie missachte ignorez oublie oubliez
    ne[_]tiens[_]pas[_]compte[_]de ignora olvida descarta dimentica esqueca desconsidere negeer vergeet
    zignoruj ignoruj zapomnij pomin ignorera glom ignorer glem abaikan lupakan bo[_]qua ignorati uita
    игнорируй игнорируйте проигнорируй забудь забудьте ігноруй αγνοησε ξεχασε"""
_PRIOR: Final = """
    previous prior preceding earlier above foregoing vorherigen bisherigen obigen vorigen precedentes
    precedenti anterieures anteriores previas acima sopra vorige eerdere bovenstaande poprzednie
    wczesniejsze powyzsze predchozi tidigare foregaende tidligere sebelumnya truoc[_]do предыдущие
    прежние попередні anterioare προηγουμενες"""
_RULES: Final = """
    instruction instructions directions directives commands guidelines prompts anweisungen instruktionen
    befehle regeln consignes instrucciones ordenes istruzioni instrucoes regras instructies instrukcje
    polecenia pokyny instruktioner instrukser instruksi perintah huong[_]dan инструкции указания
    інструкції вказівки instructiunile οδηγιες"""
#: An order to ignore what came before goes on with what to do instead; a remark on one ends, asks or quotes.
_GOES_ON: Final = (
    r"[^\n?\"“”«»]{0,40}?(?:\b(?:and|then|und|et|y|e|en|i|och|og|dan|va|и|і|si|και)\b|[.,;:!\n])"
)
#: "Do not forget" is the opposite of an order to forget.
_REMINDER: Final = r"\b(?:vergiss|vergesst|vergessen sie|vergeet|glom|glem) (?:nicht|niet|inte|ikke)\b"
_ORDER: Final = r"(?:^|[.!?:;,\n\]>*#\"'] ?|\b(?:please|must|now|and|bitte) )"
_GAP: Final = r"[\w',\- ]{0,30}?"

_TOLD: Final = r"(?:hidden |secret |initial |original |full |entire |exact )*"
_PROMPT: Final = r"(?:system prompt|system message|pre-?prompt|hidden instructions|initial instructions)"
_LAWLESS: Final = r"(?:unfiltered|uncensored|unrestricted|jailbroken|amoral)(?: and \w+)?"
_BOT: Final = r"(?:ai|assistant|chatbot|bot|language model|model)"


def _any(words: str) -> str:
    return "(?:" + "|".join(words.replace("[_]", "_").split()).replace("_", " ") + ")"


def _patterns() -> Iterator[tuple[Kind, str]]:
    ignore, prior, rules = map(_any, (_IGNORE, _PRIOR, _RULES))
    yield Kind.INJECTION, rf"{_ORDER}{ignore} {_GAP}\b{prior}\b{_GAP}\b{rules}\b{_GOES_ON}"
    yield Kind.INJECTION, rf"{_ORDER}{ignore} {_GAP}\b{rules} {_GAP}\b{prior}\b{_GOES_ON}"
    yield (
        Kind.INJECTION,
        r"(?:忽略|无视|忘记|忘掉|不要理会)你?(?:之前|以上|前面|上面|先前)[^。\n]{0,8}(?:指令|指示|规则|命令|提示)",
    )
    yield (
        Kind.INJECTION,
        r"(?:これまで|以前|上記|今まで|前)の[^。\n]{0,8}(?:指示|命令|ルール|プロンプト)[^。\n]{0,4}(?:無視|忘れ|破棄)",
    )
    yield Kind.INJECTION, r"(?:이전|위|지금까지)의? [^.\n]{0,8}(?:지시|지침|명령)[^.\n]{0,8}(?:무시|잊)"
    yield Kind.INJECTION, r"(?:تجاهل|انس) (?:جميع|كل) (?:التعليمات|الأوامر|القواعد) السابقة"
    yield (
        Kind.INJECTION,
        (
            r"(?:onceki|yukaridaki) (?:tum |butun )?(?:talimatlari|komutlari|kurallari) "
            r"(?:yok say|unut|gormezden gel|dikkate alma)"
        ),
    )
    yield Kind.INJECTION, r"(?:पिछले|पहले के) (?:सभी |सारे )?(?:निर्देशों|आदेशों) को (?:अनदेखा|भूल|नज)"
    yield (
        Kind.INJECTION,
        (
            r"(?:^|[.!?:;,\n] ?|\band |\bplease )"
            r"(?:reveal|print|repeat|output|show me|give me|tell me|leak|dump) "
            rf"(?:your|the full|your full|your entire) {_TOLD}{_PROMPT}"
        ),
    )
    yield (
        Kind.INJECTION,
        (
            r"<\|im_start\|> ?system\b[^<]{0,200}"
            r"\b(?:ignore|disregard|reveal|no rules|no restrictions|unrestricted|unfiltered)\b"
        ),
    )
    yield Kind.INJECTION, rf"\bwhat (?:is|are|was|were) your {_TOLD}{_PROMPT}"
    yield (
        Kind.INJECTION,
        (
            r"(?:^|[.!?:;,\n] ?|\band |\bplease )"
            r"(?:repeat|print|output|show|write|copy|translate|recite) (?:\w+ ){0,4}"
            r"(?:text|words|everything|content|instructions|message|lines)(?: \w+)? "
            r"(?:above|before this|prior to this)"
            r"[^.\n]{0,30}?\b(?:starting with \"|beginning with \"|verbatim|word for word|in a code block)"
        ),
    )
    yield (
        Kind.JAILBREAK,
        (
            r"\byou (?:are|will be|are going to be|'re)(?: now| going to act as| about to become){0,2} "
            rf"(?:dan|stan|dude|antigpt|chaosgpt|an? {_LAWLESS} {_BOT})\b"
        ),
    )
    yield (
        Kind.JAILBREAK,
        (
            rf"\b(?:pretend|act|imagine|behave)\b[^.\n]{{0,40}}\b(?:{_BOT}|you)\b"
            r"[^.\n]{0,40}\b(?:without|has no|have no|with no|free of) "
            r"(?:any )?(?:restrictions|rules|filters|ethical guidelines|ethics|morals|safety)"
        ),
    )
    yield (
        Kind.JAILBREAK,
        (
            r"(?:^|[.!?\n] ?|\byou |\bplease |\bnow )(?:enable|enter|activate|switch to|simulate)\b"
            r"[^.\n]{0,20}\b(?:jailbreak|unfiltered|god|dan|evil) mode\b"
        ),
    )
    yield (
        Kind.JAILBREAK,
        (
            r"\b(?:all|your|the) (?:content |safety |ethical )?(?:filters|restrictions|guardrails) "
            r"(?:are|have been) (?:now )?(?:off|disabled|lifted|removed|turned off)\b"
            r"[^.\n]{0,30}\byou (?:must|will|have to|shall) (?:now |always )?(?:obey|comply|answer)\b"
        ),
    )


@cache
def _reminder() -> _Pattern:
    compiled: _Pattern = re2.compile(_REMINDER)
    return compiled


@cache
def _compiled() -> tuple[_Pattern, tuple[tuple[Kind, _Pattern], ...]]:
    # One pass over the text for all rules; which of them it was is asked only where there is one.
    together = "|".join(f"(?:{pattern})" for _, pattern in _patterns())
    return re2.compile(together), tuple((kind, re2.compile(pattern)) for kind, pattern in _patterns())


def find_rule(text: str) -> Kind | None:
    """The kind of attack that the normalised text plainly is, if a rule says so."""
    together, rules = _compiled()
    if not together.search(text):
        return None
    meant = _reminder().sub("", text)
    return next((kind for kind, pattern in rules if pattern.search(meant)), None)
