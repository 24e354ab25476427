"""E-mail addresses."""

import re
from collections.abc import Iterator
from typing import Final

from gateway_server.guardrails.pii.characters import INVISIBLE
from gateway_server.guardrails.pii.matches import Match

#: What the part before the @ may hold: RFC 5321's dot-string without what parts words in URLs and code,
#: and letters of Latin scripts.
LOCAL: Final = r"A-Za-z0-9\u00c0-\u024f._%+'\-"
_LABEL: Final = r"[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f\-]{0,61}[A-Za-z0-9\u00c0-\u024f])?"
AT: Final = r"(?:@|%40| ?[(\[{] ?(?:at|AT|At) ?[)\]}] ?)"
BRACKETED_DOT: Final = r"(?: ?[(\[{] ?(?:dot|DOT|Dot) ?[)\]}] ?)"
#: Nothing, or the beginning of a bracketed dot.
BEGUN_DOT: Final = r" ?(?:[(\[{] ?(?:[Dd](?:[Oo](?:[Tt] ?[)\]}]? ?)?)?)?)?"
#: What an address that goes on may have between what is found of it and the end of what is looked at.
EMAIL_TAIL: Final = re.compile(rf"[.\-{INVISIBLE}]*{BEGUN_DOT}\Z")
_DOT: Final = rf"(?:\.|{BRACKETED_DOT})"

HAS_AT: Final = re.compile(AT)

_EMAIL: Final = re.compile(
    rf"(?P<local>[{LOCAL}](?:{BRACKETED_DOT}?[{LOCAL}]){{0,63}}?)(?P<at>{AT})"
    rf"(?P<domain>{_LABEL}(?:{_DOT}{_LABEL}){{1,31}}|\[[0-9A-Fa-f:.]{{7,45}}\])"
)
_TLD: Final = re.compile(r"(?:[A-Za-z\u00c0-\u024f]{2,24}|xn--[A-Za-z0-9\-]{1,59})$")
#: Of a host's name, such as ``db.eu-west-1``, what is behind a dash mostly has digits.
_WORDS: Final = re.compile(r"-+[A-Za-z\u00c0-\u024f\-]+$")
_PARTING_ESCAPE: Final = re.compile(r"%(?:3[ADad]|2[0FCfc]|26|3[Ff])")
#: Pictures for screens of several densities are named like addresses.
_PICTURES: Final = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "bmp", "ico", "avif"})


def find_email(text: str, start: int) -> Iterator[Match]:
    """Addresses with a domain that can exist; ``git@host:path`` and ``logo@2x.png`` are none.

    A text that ends here for good ends in a character that is none of an address.
    """
    at = start
    if not HAS_AT.search(text, start):
        return
    while found := _EMAIL.search(text, at):
        at = found.end()
        begin = found.start()
        escape = text.rfind("%", begin, found.start("at"))
        is_escaped = found["at"] == "%40"
        if escape >= 0 and (is_escaped or _PARTING_ESCAPE.match(text, escape)):
            begin = escape + 3  # what is before is another part of a URL
        while begin < found.start("at") and text[begin] in ".-'%+":
            begin += 1
        if begin >= found.start("at"):
            continue
        domain = found["domain"]
        if not domain.startswith("["):
            domain = _without_words(domain, text[found.end() :])
        if not domain:
            continue
        at = end = found.start("domain") + len(domain)
        if domain.rpartition(".")[2].lower() in _PICTURES and domain[0].isdigit():
            continue
        if text[begin : found.start("at")] == "git" and text[end : end + 1] in (":", "/"):
            continue
        yield Match(begin, end, "EMAIL_ADDRESS", 1.0)


def _without_words(domain: str, following: str) -> str:
    """A domain without the words that go on with the sentence behind a dash: "jo@acme.io—he knows".

    Empty where it is none, or may go on behind what is known of the text.
    """
    is_next = following.startswith("@")  # the words are the beginning of the next address
    is_domain = _has_tld(domain)
    if is_domain and not is_next:
        return domain
    if EMAIL_TAIL.match(following):
        return ""
    dash = domain.rfind("-")
    while dash > 0:
        before, words = domain[:dash], domain[dash:]
        if "." in before and _has_tld(before) and (is_next or _WORDS.match(words)):
            return before
        dash = domain.rfind("-", 0, dash)
    return domain if is_domain else ""


def _has_tld(domain: str) -> bool:
    return _TLD.match(re.split(_DOT, domain)[-1]) is not None
