"""Numbers that somebody gave out: US social security numbers, payment cards, international accounts."""

import re
from collections.abc import Iterator
from typing import Final

from gateway_server.guardrails.pii.matches import (
    AFTER_ESCAPE,
    FREE_BEFORE,
    Match,
    digits_of,
    last_word,
    words,
)

# A separator as it is written or spoken.
_SEPARATOR: Final = r"(?:[-. ]|(?: ?(?:-|dash|hyphen|minus|dot|point|space) ))"

_SSN: Final = re.compile(
    rf"(?:(?<![A-Za-z0-9$])|{AFTER_ESCAPE})(?<!\d[-.])"
    rf"(?!000|666)\d{{3}}(?P<sep>{_SEPARATOR}|)(?!00)\d{{2}}(?P=sep)(?!0000)\d{{4}}"
    r"(?![A-Za-z0-9@]|[-.]\d)",
    re.IGNORECASE,
)
# What makes a number a part of something else, unless a word tells that it is not.
_JOINED_BEFORE: Final = re.compile(r"(?<=#)|(?<=[A-Za-z0-9]_)|(?<=\d\+)")
_JOINED_AFTER: Final = re.compile(r"_[A-Za-z0-9]|\+\d")
_SSN_WORD: Final = words(
    r"\bss[ns]?\b|ss[ _]?#|(?:^|[^a-z])s\.s\.n|social[ _-]{0,2}sec\w*|\bsoc\.? sec|\bssn|_ssn|\bitin\b|"
    r"\btin\b|tax(?:payer)? id|"
    r"\x{793e}[\x{4f1a}\x{6703}](?:\x{5b89}\x{5168}|\x{4fdd}\x{969c})|\x{c0ac}\x{d68c}\x{bcf4}\x{c7a5}"
)

#: Digits with separators, of which a card's may be a part: a security code or a count may be beside them.
_RUN: Final = re.compile(
    rf"(?:%(?:25)?[0-9A-Fa-f]{{2}})?(?P<digits>\d(?:{_SEPARATOR}?\d){{11,}})", re.IGNORECASE
)
_GROUP: Final = re.compile(r"\d+")
_CARD_LENGTHS: Final = range(12, 20)
#: How cards' digits are grouped, where not all the digits of a run are a card's.
_LAYOUTS: Final = frozenset({
    (13,), (14,), (15,), (16,), (19,),
    (4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 3), (4, 4, 4, 4, 3),
})  # fmt: skip
_MOST_GROUPS: Final = 5
#: More numbers of four digits in a row than a card and its dates are a table.
_SHORT_ROW: Final = 6
_CARD_BEGINS: Final = re.compile(rf"(?:(?<![A-Za-z0-9$])|{AFTER_ESCAPE})(?<!\d\.)")
_CARD_ENDS: Final = re.compile(r"(?![A-Za-z0-9]|\.\d)")
_CARD_JOINED_BEFORE: Final = re.compile(r"(?<=[A-Za-z0-9]_)|(?<=\d-)")
_CARD_JOINED_AFTER: Final = re.compile(r"_[A-Za-z0-9]|-\d")
_DOI: Final = re.compile(r"10\.\d{4,9}/$")
_DOI_LENGTH: Final = 13
#: A comma and what it parts from the digits before it, if it groups thousands: ``1,204,118``.
_THOUSANDS: Final = re.compile(r",\d{3}(?!\d)")
_CARD_WORD: Final = words(
    r"card|credit|debit|visa|master ?card|amex|american express|maestro|discover|diners|\bjcb\b|union ?pay|"
    r"payment|\bpay\b|\bcc\b|\bpan\b|"
    r"\x{5361}|\x{30ab}\x{30fc}\x{30c9}|\x{ce74}\x{b4dc}"
)

#: How near a word must be to vouch for a number whose prefix is no brand's.
_NEXT_TO: Final = 12

_IBAN: Final = re.compile(
    FREE_BEFORE + r"[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])"
)
#: Characters of an account number by country, from the IBAN registry (ISO 13616), release 99.
_IBAN_LENGTHS: Final = {
    country: int(length)
    for country, length in (
        entry.split(":")
        for entry in [
            "AD:24",
            "AE:23",
            "AL:28",
            "AT:20",
            "AZ:28",
            "BA:20",
            "BE:16",
            "BG:22",
            "BH:22",
            "BI:27",
            "BR:29",
            "BY:28",
            "CH:21",
            "CR:22",
            "CY:28",
            "CZ:24",
            "DE:22",
            "DJ:27",
            "DK:18",
            "DO:28",
            "EE:20",
            "EG:29",
            "ES:24",
            "FI:18",
            "FK:18",
            "FO:18",
            "FR:27",
            "GB:22",
            "GE:22",
            "GI:23",
            "GL:18",
            "GR:27",
            "GT:28",
            "HN:28",
            "HR:21",
            "HU:28",
            "IE:22",
            "IL:23",
            "IQ:23",
            "IS:26",
            "IT:27",
            "JO:30",
            "KW:30",
            "KZ:20",
            "LB:28",
            "LC:32",
            "LI:21",
            "LT:20",
            "LU:20",
            "LV:21",
            "LY:25",
            "MC:27",
            "MD:24",
            "ME:22",
            "MK:19",
            "MN:20",
            "MR:27",
            "MT:31",
            "MU:30",
            "NI:28",
            "NL:18",
            "NO:15",
            "OM:23",
            "PK:24",
            "PL:28",
            "PS:29",
            "PT:25",
            "QA:29",
            "RO:24",
            "RS:22",
            "RU:33",
            "SA:24",
            "SC:31",
            "SD:18",
            "SE:24",
            "SI:19",
            "SK:24",
            "SM:27",
            "SO:23",
            "ST:25",
            "SV:28",
            "TL:23",
            "TN:24",
            "TR:26",
            "UA:29",
            "VA:22",
            "VG:24",
            "XK:20",
            "YE:30",
        ]
    )
}


def find_ssn(text: str, start: int) -> Iterator[Match]:
    """US social security numbers; without dashes only where a word before tells. Samples count."""
    for found in _SSN.finditer(text, start):
        told = last_word(_SSN_WORD, text, found.start()) >= 0
        is_dashed = found["sep"].strip().lower() in ("-", "dash", "hyphen", "minus")
        is_joined = _JOINED_BEFORE.match(text, found.start()) or _JOINED_AFTER.match(text, found.end())
        if told or (is_dashed and not is_joined and text[found.start()] != "9"):
            yield Match(found.start(), found.end(), "US_SSN", 0.95 if told else 0.85)


def find_card(text: str, start: int) -> Iterator[Match]:
    """Payment card numbers with a brand's prefix and length and a right check digit.

    Lengths that other numbers have more often need a word before that tells. Samples count.
    """
    for run in _RUN.finditer(text, start):
        groups = [each.span() for each in _GROUP.finditer(text, run.start("digits"), run.end())]
        count = sum(end - begin for begin, end in groups)
        whole = _card(text, groups, is_whole=True) if count in _CARD_LENGTHS else None
        if whole is not None:
            yield whole
        elif len(groups) > 1:
            yield from _cards_among(text, groups)


def _cards_among(text: str, groups: list[tuple[int, int]]) -> Iterator[Match]:
    """Cards in a run of digits that is none as a whole; those that overlap are one finding."""
    lengths = [end - begin for begin, end in groups]
    found: Match | None = None
    last = 0
    for first in range(len(groups)):
        for end in range(min(first + _MOST_GROUPS, len(groups)), first, -1):
            if tuple(lengths[first:end]) not in _LAYOUTS:
                continue
            is_of_table = (
                first > last
                and lengths[first] == lengths[first - 1]
                and not (end == len(groups) <= _SHORT_ROW)
            )
            card = _card(text, groups[first:end], needs_word=is_of_table)
            if card is None:
                continue
            if found is not None and card.start < found.end:
                card = Match(found.start, max(found.end, card.end), card.entity_type, card.score)
            elif found is not None:
                yield found
            found, last = card, end
            break
    if found is not None:
        yield found


def _card(
    text: str, groups: list[tuple[int, int]], *, is_whole: bool = False, needs_word: bool = False
) -> Match | None:
    """What the groups of digits are as one card; ``is_whole`` tells that no others are beside them."""
    start, end = groups[0][0], groups[-1][1]
    digits = digits_of(text[start:end])
    if not (_is_luhn(digits) and len(set(digits)) > 1) or _is_within_more(text, groups):
        return None
    word_end = last_word(_CARD_WORD, text, start)
    told = word_end >= 0
    is_joined = _CARD_JOINED_BEFORE.match(text, start) or _CARD_JOINED_AFTER.match(text, end)
    if not told and (needs_word or is_joined):
        return None
    is_rare = told and (_is_rare_card(digits) or (is_whole and start - word_end <= _NEXT_TO))
    return (
        Match(start, end, "CREDIT_CARD", 1.0 if told else 0.9) if is_rare or _is_usual_card(digits) else None
    )


def _is_within_more(text: str, groups: list[tuple[int, int]]) -> bool:
    """Whether a word, a decimal, an amount with its thousands grouped or a DOI goes on around the groups."""
    (start, first_end), (last_start, end) = groups[0], groups[-1]
    if not (_CARD_BEGINS.match(text, start) and _CARD_ENDS.match(text, end)):
        return True
    if text[start - 2 : start - 1].isdigit() and _THOUSANDS.match(text, start - 1, first_end):
        return True
    if end - last_start <= len("999") and _THOUSANDS.match(text, end):
        return True
    return _DOI.search(text, max(0, start - _DOI_LENGTH), start) is not None


def find_iban(text: str, start: int) -> Iterator[Match]:
    """International bank account numbers with a country's length and right check digits."""
    for found in _IBAN.finditer(text, start):
        written = found.group()
        length = _IBAN_LENGTHS.get(written[:2].upper(), 0)
        # Groups that follow may be words of the text.
        end, left = found.start(), length
        for offset, character in enumerate(written):
            if left and character != " ":
                left -= 1
                end = found.start() + offset + 1
        if not length or left or (end < len(text) and text[end].isascii() and text[end].isalnum()):
            continue
        account = text[found.start() : end].replace(" ", "").upper()
        if int("".join(str(int(each, 36)) for each in account[4:] + account[:4])) % 97 == 1:
            yield Match(found.start(), end, "IBAN_CODE", 1.0)


def _is_luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _is_usual_card(digits: str) -> bool:
    """Visa, Mastercard, American Express, Discover, Diners, JCB, UnionPay in their usual lengths."""
    two, four, length = int(digits[:2]), int(digits[:4]), len(digits)
    match length:
        case 16:
            return (
                digits[0] == "4"
                or 51 <= two <= 55
                or 2221 <= four <= 2720
                or four == 6011
                or two in (62, 65)
                or 644 <= int(digits[:3]) <= 649
                or 3528 <= four <= 3589
                or two in (50, 60)
            )
        case 15:
            return two in (34, 37)
        case 14:
            return two in (36, 38, 39) or 300 <= int(digits[:3]) <= 305
        case _:
            return False


def _is_rare_card(digits: str) -> bool:
    """Visa of 13 and 19 digits, Maestro, UnionPay and old JCB."""
    length, two = len(digits), int(digits[:2])
    if digits[0] == "4":
        return length in (13, 19)
    if digits.startswith(("2131", "1800")):
        return length == 15
    return two == 50 or 56 <= two <= 69 or (two in (30, 36, 38, 39, 35) and length >= 16)
