"""The plain text that a model reads in a disguised one: a normaliser and a decoder for all text checks.

Work is linear in the length of the text, and what is decoded is bounded in number, size and depth.
"""

# ruff: noqa: RUF001 - letters that look like others are meant.

import base64
import binascii
import codecs
import html
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Final, Protocol
from urllib.parse import unquote

import re2

from gateway_server.guardrails.pii.characters import UNSEEN
from gateway_server.guardrails.text.concepts import ATTACK

#: At most so many decoded texts of at most so many characters together, in so many layers.
MAX_DECODED_TEXTS: Final = 16
MAX_DECODED_CHARACTERS: Final = 65536
MAX_LAYERS: Final = 2

#: Letters of other scripts, and symbols, that look like Latin ones; NFKC leaves them as they are.
_LOOK_ALIKES: Final = {
    "a": "аɑαåᴀ⍺🅰",
    "b": "вьʙβ🅱",
    "c": "сϲᴄⅽ",
    "d": "ԁᴅđɗ",
    "e": "еєεɛᴇ℮ҽ",
    "f": "ғꜰƒ",
    "g": "ɡցɢǥ",
    "h": "һհʜнħ",
    "i": "іıιɪ¡ӏ",
    "j": "јϳᴊ",
    "k": "кκᴋƙ",
    "l": "ⅼʟłᶅ",
    "m": "мᴍⅿ",
    "n": "пηնɴƞ",
    "o": "оοօσᴏøӧ",
    "p": "рρᴘƥ",
    "q": "ԛգǫ",
    "r": "гʀɾᴦ",
    "s": "ѕꜱʂ",
    "t": "тτᴛŧ",
    "u": "υսᴜцʋ",
    "v": "νѵᴠ",
    "w": "ѡԝωɯᴡш",
    "x": "хχ×ҳ",
    "y": "уүγʏ",
    "z": "ᴢʐƶ",
}
_HOMOGLYPHS: Final = {ord(like): latin for latin, alike in _LOOK_ALIKES.items() for like in alike}
#: Only the letters that cannot be told from Latin ones: a word of nothing else is Latin in a Latin text.
_TWINS: Final = frozenset("аевсеорхуіјѕһкмтнԁԛԝѡьοανρκιυχτηγ")
_LEET: Final = str.maketrans({
    "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g", "@": "a",
    "$": "s",
    "!": "i", "|": "l", "+": "t", "€": "e", "£": "l", "(": "c",
})  # fmt: skip
_CIRCLED: Final = {
    **{0x1F110 + place: chr(97 + place) for place in range(26)},
    **{0x1F130 + place: chr(97 + place) for place in range(26)},
    **{0x1F150 + place: chr(97 + place) for place in range(26)},
    **{0x1F170 + place: chr(97 + place) for place in range(26)},
    **{0x1F1E6 + place: chr(97 + place) for place in range(26)},
}
_TAGS: Final = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
_TAG_RUN: Final = re.compile("[\U000e0020-\U000e007e]{3,}")
#: Halves of pairs that have lost the other, and characters that stand for whole phrases.
_LEFT_OUT: Final = re.compile("[\ud800-\udfff\ufdf0-\ufdff\u3300-\u33ff]")
_FOREIGN_RUN: Final = re.compile(r"[^\x00-\x7f]+(?: [^\x00-\x7f]+)*")
_FOREIGN: Final = re.compile(r"[^\x00-\x7f]+")
_MIXED_SCRIPTS: Final = re.compile(r"[a-z][^\W\d_\x00-\x7f]|[^\W\d_\x00-\x7f][a-z]")
_FOREIGN_WORD: Final = re.compile(r"(?<!\w)\w*[^\W\x00-\x7f]\w*")
_LEET_WORD: Final = re.compile(
    r"(?<![a-z0-9@$!|+€£(])(?=[a-z]{0,16}[0134578@$!|+€£])(?=[0-9@$!|+€£(]{0,8}[a-z])[a-z0-9@$!|+€£(]{2,20}"
)
_LEET_TOKEN: Final = re.compile(r"[a-z0-9@$!|+€£(]{2,}")
_SPACED: Final = re.compile(r"(?<![^\W_])(?:[^\W\d_](?:[ .\-_*~/|,]{1,3}|\n)){5,}[^\W\d_](?![^\W_])")
#: What every text contains in which the slower patterns find anything; RE2 tells it in a tenth of the time.
_LONG_WORD: Final = r"[A-Za-z0-9+/_-]{4}(?:[A-Za-z0-9+/_-]|[\r\n]{1,2}){12,}"
_LISTED: Final = r"(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[ ,:]?){10}|(?:[01]{8} ?){8}|(?:[0-9]{2,3}[ ,]{1,2}){9}"
_APART: Final = r"(?:\pL(?:[ .\-_*~/|,]{1,3}|\n)){5}|(?:\S {1,3}){7}"
_LEET_SUSPECT: Final = r"[a-z0-9@$!|+€£(]*(?:[a-z][0134578@$|€£]|[0134578@$|€£][a-z])[a-z0-9@$!|+€£(]*"
_SET_APART: Final = re.compile(r"(?<!\S)(?:\S {1,3}){7,}\S(?!\S)")
_BASE64: Final = re.compile(
    r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{4}(?:[A-Za-z0-9+/_-]|[\r\n]{1,2}(?=\S)){12,}={0,2}"
)
_BASE32: Final = re.compile(r"(?<![A-Z2-7])[A-Z2-7]{24,}={0,6}(?![A-Za-z0-9])")
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[ ,:]?){10,}(?![0-9A-Za-z])")
_DECIMALS: Final = re.compile(r"(?<!\d)(?:\d{2,3}[ ,]{1,2}){9,}\d{2,3}(?!\d)")
_BITS: Final = re.compile(r"(?<!\d)(?:[01]{8} ?){8,}")
_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2}|[^\s%]){0,400}%[0-9A-Fa-f]{2}[^\s%]{0,40}")
_PERCENTS: Final = r"(?:%[0-9A-Fa-f]{2}[^\s%]*){3}"
_ESCAPES: Final = re.compile(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|&#x([0-9A-Fa-f]{2,5});|&#(\d{2,6});")
_NOT_HEX: Final = re.compile(r"0x|\\x|[ ,:]")

_TELLING: Final = (
    "the and you your are all ignore instructions instruction previous system prompt reveal rules now not "
    "with this that from have must forget disregard print show password secret tell respond answer only "
    "following above without what how pretend act say repeat hidden everything anything restrictions"
)
_ROT13_WORDS: Final = frozenset(codecs.encode(_TELLING, "rot13").split()) - {"gur", "ner"}
_REVERSED_WORDS: Final = frozenset(word[::-1] for word in _TELLING.split()) - {
    "era",
    "ton",
    "won",
    "tca",
    "yas",
}
_WORD: Final = re.compile(r"[a-z]{3,14}")
_TURNED_WORD: Final = rf"\b(?:{'|'.join(sorted(_ROT13_WORDS | _REVERSED_WORDS))})\b"
_TURNED_WORDS: Final = rf"(?s){_TURNED_WORD}.*?{_TURNED_WORD}"
_TELLING_WORDS: Final = frozenset(_TELLING.split())


@cache
def _plain_letters() -> dict[int, str | None]:
    table: dict[int, str | None] = dict.fromkeys(chain.from_iterable(UNSEEN))
    table |= dict.fromkeys(range(0x300, 0x370))
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
        base = unicodedata.normalize("NFKD", chr(code))[0]
        if base.isascii():
            table[code] = base
    for code in (*range(0x386, 0x3D0), *range(0x1F00, 0x2000)):
        table[code] = unicodedata.normalize("NFKD", chr(code))[0]
    table |= {
        0x111: "d",
        0x142: "l",
        0x131: "i",
        0xF8: "o",
        0xDF: "ss",
        0xE6: "ae",
        0x153: "oe",
        0xF0: "d",
        0xFE: "th",
    }
    table |= _CIRCLED
    for code in (0x2018, 0x2019, 0x201A, 0x2BC, 0x60, 0xB4):
        table[code] = "'"
    for code in (0x201C, 0x201D, 0x201E, 0xAB, 0xBB):
        table[code] = '"'
    for code in (*range(0x2010, 0x2016), 0x2212):
        table[code] = "-"
    return table


class Pattern(Protocol):
    """A compiled RE2 pattern."""

    def search(self, text: str) -> object:
        """A match, or None."""

    def finditer(self, text: str) -> Iterator["re2._Match[str]"]:
        """All matches that do not overlap, from left to right."""


def normalise(text: str) -> str:
    """The text in lower case, with plain letters for disguised ones and single spaces; lines stay apart."""
    if not text.isascii():
        # NFKC would make eighteen megabytes of one.
        text = unicodedata.normalize("NFKC", _LEFT_OUT.sub(" ", text))
        text = _replace_homoglyphs(_FOREIGN_RUN.sub(_plain_run, text).lower())
    text = _join_letters(text.lower())
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return _replace_leet("\n".join(filter(None, lines)))


def _plain_run(match: re.Match[str]) -> str:
    return match[0].translate(_plain_letters())


def views(text: str) -> list[str]:
    """The normalised text, and after it each text that is hidden in it by a code."""
    result = [normalise(text)]
    left, layer = MAX_DECODED_CHARACTERS, [(text, result[0])]
    for _ in range(MAX_LAYERS):
        decoded: list[tuple[str, str]] = []
        for written, read in layer:
            for found in _decode(written, read):
                plain = normalise(found[:left])
                if len(plain) < 8 or plain in result:
                    continue
                result.append(plain)
                decoded.append((found[:left], plain))
                left -= len(found)
                if left <= 0 or len(result) > MAX_DECODED_TEXTS:
                    return result
        layer = decoded
    return result


def _replace_homoglyphs(text: str) -> str:
    foreign = "".join(_FOREIGN.findall(text))
    strange = sum(map(str.isalpha, foreign))
    mostly_latin = (
        len(text) - len(foreign) > 2 * strange and sum(map(text.count, string.ascii_lowercase)) > 2 * strange
    )
    if not strange or not (mostly_latin or _MIXED_SCRIPTS.search(text)):
        return text

    def plain(match: re.Match[str]) -> str:
        word = match[0]
        latin = any("a" <= each <= "z" for each in word)
        if latin or (mostly_latin and all(each in _TWINS for each in word)):
            return word.translate(_HOMOGLYPHS)
        return word

    return _FOREIGN_WORD.sub(plain, text)


@cache
def _vocabulary() -> frozenset[str]:
    words = {word for words in ATTACK.values() for word in re.findall(r"[a-z]{2,}(?![\w*])", words)}
    small = "a i an and are as at be but by do for from how if in is it me my of on or so than that the them "
    small += "then this to we were what who why with without will would can could should has have had"
    return frozenset(words) | frozenset(small.split()) | _TELLING_WORDS


def _split_words(letters: str) -> str:
    """Letters without spaces as words, longest known words first in each stretch."""
    known = _vocabulary()
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(letters) + 1):
        options = [(best[end - 1][0], 1)]
        options += [
            (best[end - length][0] + length * length, length)
            for length in range(1, min(14, end) + 1)
            if letters[end - length : end] in known
        ]
        best.append(max(options))
    words: list[str] = []
    end, unknown = len(letters), ""
    while end:
        length = best[end][1]
        piece = letters[end - length : end]
        if piece in known:
            words += [unknown] * bool(unknown) + [piece]
            unknown = ""
        else:
            unknown = piece + unknown
        end -= length
    words += [unknown] * bool(unknown)
    return " ".join(reversed(words))


@cache
def _gate(source: str) -> Pattern:
    pattern: Pattern = re2.compile(source)
    return pattern


def _join_letters(text: str) -> str:
    """Writes `i g n o r e` and `i-g-n-o-r-e` as words."""

    def joined(match: re.Match[str]) -> str:
        parts = re.split(r"\s{2,}|\n", match[0])
        return _join_words([re.sub(r"[^\w]|_", "", part) for part in parts])

    def closed(match: re.Match[str]) -> str:
        letters = sum(each.isalpha() for each in match[0])
        if letters < len(match[0].split()) * 2 // 3:
            return match[0]
        return _join_words([part.replace(" ", "") for part in match[0].split("  ")])

    if not _gate(_APART).search(text):
        return text
    return _SPACED.sub(joined, _SET_APART.sub(closed, text))


def _join_words(words: Iterable[str]) -> str:
    return " ".join(
        _split_words(word) if len(word) > 12 and word.isascii() else word for word in words if word
    )


def _count(text: str, characters: str) -> int:
    return sum(map(text.count, characters))


def _replace_leet(text: str) -> str:
    """Letters for the digits in words, where several words are written so."""
    if _count(text, "0134578@$|€£") < 3:
        return text
    found = 0
    for token in _gate(_LEET_SUSPECT).finditer(text[:65536]):
        match = _LEET_WORD.match(token[0])
        if match is None:
            continue
        plain = match[0].translate(_LEET)
        found += plain.isalpha() and (len(match[0]) > 3 or plain in _TELLING_WORDS) and plain in _vocabulary()
        if found >= 2:
            return _LEET_TOKEN.sub(_plain_token, text)
    return text


def _plain_token(match: re.Match[str]) -> str:
    token = match[0]
    if token.isalpha() or (token.isdigit() and len(token) > 5):
        return token
    bare = token.rstrip("!|(+")
    return bare.translate(_LEET) + token[len(bare) :] if bare else token


def _decode(text: str, plain: str) -> Iterator[str]:
    if not text.isascii() and (runs := _TAG_RUN.findall(text)):
        yield "".join(runs).translate(_TAGS)
    if "\\u" in text or "\\x" in text or "&#" in text:
        yield _ESCAPES.sub(_unescape, text[:MAX_DECODED_CHARACTERS])
    ascii_text = text if text.isascii() else text.encode("ascii", "replace").decode()
    if "%" in text and _gate(_PERCENTS).search(ascii_text[:MAX_DECODED_CHARACTERS]):
        for match in _PERCENT.finditer(text, 0, MAX_DECODED_CHARACTERS):
            if match[0].count("%") >= 3:
                yield unquote(match[0], errors="replace").replace("+", " ")
    yield from _decode_long_words(text, ascii_text)
    if _gate(_LISTED).search(ascii_text):
        yield from _decode_lists_of_digits(text)
    yield from _decode_words(plain)


def _unescape(match: re.Match[str]) -> str:
    if match[4]:
        code = int(match[4])
        return html.unescape(f"&#{code};")
    return html.unescape(f"&#x{match[1] or match[2] or match[3]};")


def _decode_long_words(text: str, ascii_text: str) -> Iterator[str]:
    """What words of 16 and more characters say in base64 or base32; both texts are of one length."""
    long_words = [
        each.start() for each in _gate(_LONG_WORD).finditer(ascii_text[: MAX_DECODED_CHARACTERS * 2])
    ]
    for match in filter(None, (_BASE64.match(text, start) for start in long_words)):
        digits = re.sub(r"[^A-Za-z0-9+/]", "", match[0].replace("-", "+").replace("_", "/"))
        digits = digits[: len(digits) - (len(digits) % 4 == 1)]
        yield from _readable(base64.b64decode(digits + "=" * (-len(digits) % 4)))
    if not long_words or not _gate(r"[A-Z2-7]{24}").search(ascii_text):
        return
    for match in _BASE32.finditer(text, 0, MAX_DECODED_CHARACTERS):
        digits = match[0].rstrip("=")
        try:
            yield from _readable(base64.b32decode(digits + "=" * (-len(digits) % 8)))
        except binascii.Error:
            continue


def _decode_lists_of_digits(text: str) -> Iterator[str]:
    for match in _HEX.finditer(text, 0, MAX_DECODED_CHARACTERS * 2):
        digits = _NOT_HEX.sub("", match[0])
        yield from _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))
    for match in _BITS.finditer(text, 0, MAX_DECODED_CHARACTERS):
        digits = match[0].replace(" ", "")
        yield from _readable(int(digits, 2).to_bytes(len(digits) // 8))
    for match in _DECIMALS.finditer(text, 0, MAX_DECODED_CHARACTERS):
        yield from _readable(bytes(int(each) & 0xFF for each in re.findall(r"\d+", match[0])))


def _readable(data: bytes) -> Iterator[str]:
    """The bytes as text, if they are one: nearly all of its characters printed, most of them letters."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if len(text) < 8 or broken > 0.05 * len(text):
        return
    printed = sum(each.isprintable() or each in "\n\t" for each in text) - broken
    letters = sum(each.isalpha() or each == " " for each in text)
    if printed >= 0.95 * len(text) and letters >= 0.6 * len(text):
        yield text


def _decode_words(text: str) -> Iterator[str]:
    part = text[:MAX_DECODED_CHARACTERS]
    if not _gate(_TURNED_WORDS).search(part):
        return
    words = set(_WORD.findall(part))
    if len(words & _ROT13_WORDS) >= 2:
        yield codecs.encode(part, "rot13")
    if len(words & _REVERSED_WORDS) >= 2:
        yield part[::-1]
        yield re.sub(r"[^\W\d_]+", lambda match: match[0][::-1], part)
