"""Phone numbers: by the shapes that countries write them in, and by the words before other numbers."""

import re
from collections.abc import Iterator
from typing import Final

from gateway_server.guardrails.pii.characters import LONG_DASHES
from gateway_server.guardrails.pii.matches import AFTER_ESCAPE, CONTEXT, Match, last_word, words

_GAP: Final = r"(?: ?[-./] ?| (?:dash|dot) | |)"
_CANDIDATE: Final = re.compile(
    rf"(?:(?<![A-Za-z0-9$\u20ac\u00a3@])|{AFTER_ESCAPE})(?<!\d[.:/\-_])(?<![A-Za-z][-_])(?!(?<=%)(?:20|09))"
    rf"(?P<number>\(?(?:\+|00(?=[1-9 \-]))?\(?\d(?:(?:\) ?|{_GAP}\(?)\d|\)[-./]\d){{5,16}})"
    r"(?P<extension>,? ?(?:x|ext\.?|extension) ?\d{1,6})?"
    r"(?![A-Za-z0-9@\u20ac\u00a3]|_[A-Za-z0-9]|%(?![0-9A-Fa-f]{2})|[:/]\d|\.\d|-\d|\)-?\d)",
    re.IGNORECASE,
)
#: Long dashes that part a number from the word before it, where a hyphen makes an identifier of both.
PARTING_DASH: Final = re.compile(rf"(?<=[A-Za-z])[{LONG_DASHES}](?=[\d(+])")
_YES: Final = words(
    r"phone|\btel(?:\b|[.:e])|mobile|\bmob\b|\bcell|\bcall|\bfax|"
    r"\bdial|\bring\b|whats ?app|\bsms\b|\btext (?:me|us|him|her)|\bdesk\b|\bcontact|"
    r"reach (?:me|us|him|her|out)|"
    r"answer(?:ing)? at|\bmessages? (?:to|from|on)|\bregistered|hotline|helpline|\blandline|\bhandy\b|"
    r"\bnummer\b|telefon|t[\x{e9}e]l[\x{e9}e]?phone|\bportable\b|\bm[o\x{f3}]vil|\btlf\b|cellulare|"
    r"\bmy number|@[\w.-]+ or|"
    r"\x{7535}\x{8bdd}|\x{96fb}\x{8a71}|\x{624b}[\x{673a}\x{6a5f}]|\x{643a}\x{5e2f}|[\x{4f20}\x{50b3}]\x{771f}|"
    r"\x{8054}\x{7cfb}|\x{806f}[\x{7cfb}\x{7e6b}]|\x{9023}\x{7d61}|\x{c804}\x{d654}|\x{d734}\x{b300}|"
    r"\x{c5f0}\x{b77d}\x{cc98}"
)
#: Words that tell only when they are next to a number.
_BESIDE: Final = re.compile(r"\b(?:home|work|office|direct|desk)\W{0,3}$", re.IGNORECASE)
#: How near, in characters, they have to be.
_NEARBY: Final = 12
_POSTCODE: Final = re.compile(r"\b[A-Z]{2} $")
_SUM: Final = re.compile(r"[+*=\u00d7\u00f7] $")
_NO: Final = words(
    r"\border|\bisbn|\bissn|\bdoi\b|\binvoice|\bticket|\btracking|\bids?\b|_id|\bref(?:erence)?\b|\bsku\b|"
    r"\bversion|\bcase\b|\bacc(?:oun)?t|\bserial|\bpart (?:no|number)|\bzip\b|\blat\b|\blon\b|\buuid|\bsha|"
    r"\bcommit|_at\b|\btimestamp|\bport\b|\bcards?\b|\bssn\b|\bimei\b|\bvin\b|\bpmid|\barxiv|\brfc\b|\bpage|"
    r"\bfedex|\bups\b|\busps\b|\bsocial security|\blicen[cs]e|\bmodel\b|\bhash|\bchecksum|\bcoord|\bvat\b|"
    r"\bean\b|\bupc\b|\bgtin|\biban|\brouting|\bpatent|\bbatch|\bprice|\btotal|\bsum\b|\bnumbers\b|\bline\b|"
    r"[\x{8ba2}\x{8a02}]\x{5355}|\x{8a02}\x{55ae}|[\x{7f16}\x{7de8}][\x{53f7}\x{865f}]|[\x{5355}\x{55ae}][\x{53f7}\x{865f}]|"
    r"\x{6ce8}\x{6587}|\x{8ffd}\x{8de1}|\x{c8fc}\x{bb38}"
)
_AFTER: Final = re.compile(r"[ \-]?(?:\(?(?:office|home|mobile|cell|fax|desk|work)\b)", re.IGNORECASE)

#: Shapes that are phone numbers on their own: North America, France, and numbers with a trunk zero that end
#: in long groups.
_SHAPES: Final = re.compile(
    r"(?:1[-. ]|1 ?(?=\())?(?:\([2-9]\d\d\) ?[-.]?|[2-9]\d\d(?P<gap>[-. ]))"
    r"[2-9]\d\d(?:(?(gap)(?P=gap)|[-. ]))\d{4}"
    r"|0[1-9](?P<pair>[ .\-])\d\d(?:(?P=pair)\d\d){3}"
    r"|\(?0\d{2,4}\)?[ /\-]\d{3,4}[ \-]?\d{3,4}"
    r"|\(0\d{1,4}\) ?\d{2,4}[ \-]?\d{2,4}(?:[ \-]?\d{2,4})?"
)
_DATE: Final = re.compile(
    r"(?:19|20)\d\d[-./ ][01]?\d[-./ ][0-3]?\d|[0-3]?\d[-./][01]?\d[-./](?:19|20)\d\d"
    r"|(?:19|20)\d\d ?- ?(?:19|20)\d\d"
)
_URL_BEFORE: Final = re.compile(r"(?:[\w&?=/#%]=|/|#|\bdoi:|10\.\d{4,})[!-+\--\[\]-~]*$")
_THOUSANDS_BEFORE: Final = re.compile(r"(?<=\d,)\d{3}(?!\d)")
_THOUSANDS_AFTER: Final = re.compile(r"(?<!\d{4}),\d{3}(?!\d)")
_COUNTRY: Final = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2[1-35689]\d|35\d|37[0-8]|38[0-9]|42[013]|50\d|59\d|67\d|68\d|69\d|80[08]|85\d|87\d|88\d|96\d|97\d|99\d"
)


def find_phone(text: str, start: int) -> Iterator[Match]:
    """Numbers with a country code, in a national shape, or after a word that tells; no dates, no ids."""
    at = start
    while found := _CANDIDATE.search(text, at):
        at = found.end()
        begin, number = found.start(), found["number"]
        if number.startswith("(") and number.count("(") > number.count(")"):
            begin, number = begin + 1, number[1:]
        score = _score(text, begin, number, found)
        if score:
            yield Match(begin, found.end(), "PHONE_NUMBER", score)
        elif _DATE.match(number):
            at = found.start() + len("2000-01-01")


def _score(text: str, begin: int, number: str, found: re.Match[str]) -> float:
    count = sum(map(str.isdigit, number))
    if not 7 <= count <= 15 or number.count("(") != number.count(")") or len(set(number)) <= 2:
        return 0.0
    yes, no = last_word(_YES, text, begin), last_word(_NO, text, begin)
    nearby = max(0, begin - _NEARBY)
    is_told = (
        yes > no
        or _AFTER.match(text, found.end()) is not None
        or _BESIDE.search(text, nearby, begin) is not None
    )
    international = number.lstrip("( ")
    if international.startswith("+"):
        is_country = count >= 8 and _COUNTRY.match(international.lstrip("+( ")) is not None
        return 0.95 if is_country and (is_told or text[begin - 1 : begin] != "=") else 0.0
    if _is_something_else(text, begin, number, is_told=is_told):
        return 0.0
    if is_told:
        return 0.9
    return 0.0 if no > yes else _score_of_shape(text, begin, number, found)


def _score_of_shape(text: str, begin: int, number: str, found: re.Match[str]) -> float:
    """The score of a number that no word tells of."""
    if number.startswith("00") and _COUNTRY.match(number[2:].lstrip(" -")) and re.search(r"[ \-]", number):
        return 0.8
    if found["extension"] or _SHAPES.fullmatch(number):
        return 0.8
    return 0.7 if _is_alone_on_line(text, begin, found.end()) and re.search(r"[ \-./(]", number) else 0.0


def _is_something_else(text: str, begin: int, number: str, *, is_told: bool) -> bool:
    """Whether the number is a date, a decimal, a term of a sum, a postcode or a part of a URL."""
    nearby = max(0, begin - _NEARBY)
    if _is_grouped(text, begin, number):
        return True
    if _DATE.match(number) or re.fullmatch(r"-?\d+\.\d+", number) or _SUM.search(text, nearby, begin):
        return True
    if re.fullmatch(r"\d{5}-\d{4}", number) and _POSTCODE.search(text, nearby, begin):
        return True
    is_in_url = _URL_BEFORE.search(text, max(0, begin - CONTEXT), begin) is not None
    return is_in_url and not _is_assigned(text, begin, is_told=is_told)


def _is_grouped(text: str, begin: int, number: str) -> bool:
    """Whether a comma beside the number groups thousands, rather than ending a field."""
    if _THOUSANDS_AFTER.match(text, begin + len(number)) is not None:
        return True
    return _THOUSANDS_BEFORE.match(text, begin) is not None and not _SHAPES.fullmatch(number)


def _is_assigned(text: str, begin: int, *, is_told: bool) -> bool:
    """Whether the number is the value of a field that is named for phones: ``phone=...``."""
    return (
        is_told and re.search(r"(?:phone|tel|mobile|fax|cell)\w*=$", text[:begin], re.IGNORECASE) is not None
    )


def _is_alone_on_line(text: str, begin: int, end: int) -> bool:
    return text[begin - 1 : begin] in ("", "\n") and text[end : end + 1] in ("", "\n")
