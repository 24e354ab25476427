"""All rules on JSON that comes in pieces: what is guarded is what its strings say, and it stays JSON.

Every string is a text of its own with the name of its field before it, so that ``{"ssn": "219 16 9994"}``
tells as much as a sentence; and before that the string that came last in its container, so that
``["SSN", "219169994"]`` does too. Names of fields are texts too, and so is what stands outside of strings,
numbers above all. What is not replaced keeps its own escapes. Names of one object that are the same only
because of what was masked are told apart by a number behind them, so that no reader of it loses a value. What
does not begin as JSON is guarded as one text; where JSON turns out to be none, all that came
since then stands before what follows.
"""

import json
import re
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

from gateway_server.guardrails.text_guard import BlockedError, Part, Replaced, TextGuard, said

#: Makes the guard of one string; its argument stands before the string.
OpenText = Callable[[str], TextGuard]

_BYTE_ORDER_MARK: Final = "\ufeff"
_JSON_BEGINNING: Final = re.compile(rf'{_BYTE_ORDER_MARK}?\s*[{{\["]')
_STRING_RUN: Final = re.compile(r'[^"\\]+')
_SHORT_STRING: Final = re.compile(r'([^"\\]{0,64})"')
_BARE_RUN: Final = re.compile(r'[^{}\[\],:"]+')
_LITERALS: Final = "|".join(
    word[:length] for word in ("true", "false", "null") for length in range(1, len(word) + 1)
)
#: What stands outside of strings in JSON, or may yet become it.
_SCALAR_BEGINNING: Final = re.compile(rf"(?:-?[0-9][0-9.eE+\-]*|-|{_LITERALS})\s*")
_NUMBER_RUN: Final = re.compile(r"[0-9.eE+\-]*")
_ESCAPE: Final = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|[^u])", re.DOTALL)
_ESCAPE_BEGINNING: Final = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?$")
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HIGH: Final = re.compile(r"\\u[Dd][89ABab]")
_LOW: Final = re.compile(r"\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}")
_LONGEST_CONTEXT: Final = 48
#: A string that is no longer may say what the value after it is, and has its place however long names are.
_LONGEST_LABEL: Final = 22
#: What is deeper is read after the names of as many containers around it as differ.
_MOST_CONTEXTS: Final = 1_000
#: Numbers that are longer are nobody's.
_LONGEST_SCALAR: Final = 64
#: What stands for what was masked, by its kind or by a number.
_PLACEHOLDER: Final = re.compile(r"\[[A-Z_]{1,40}_(?:REDACTED|[0-9]{1,12})\]")
_LONGEST_PLACEHOLDER: Final = 55


class _Said:
    """A name as it is passed on, which may be long, by its digest."""

    def __init__(self, text: str = "") -> None:
        self._digest = blake2b(digest_size=16)
        #: Whether it was masked, or may be what another one becomes, which has a placeholder in it.
        self.is_changed = self.may_collide = False
        #: Where a placeholder may have begun.
        self._ending = ""
        self.add(text)

    def add(self, text: str) -> None:
        """It goes on."""
        self._digest.update(text.encode("utf-8", "surrogatepass"))
        if not self.may_collide and (self._ending or "[" in text):
            text = self._ending + text
            self.may_collide = _PLACEHOLDER.search(text) is not None
            place = text.rfind("[", -_LONGEST_PLACEHOLDER)
            self._ending = text[place:] if place >= 0 else ""

    def key(self, ending: str = "") -> bytes:
        """What tells it from others, with an ending."""
        digest = self._digest.copy()
        digest.update(ending.encode())
        return digest.digest()

    def __deepcopy__(self, memo: object) -> "_Said":
        copied = _Said()
        copied._digest = self._digest.copy()
        copied.is_changed, copied.may_collide = self.is_changed, self.may_collide
        copied._ending = self._ending
        return copied


class _Seen(NamedTuple):
    """How many names of an object would be the same, and whether any of them by what was masked."""

    number: int = 0
    is_changed: bool = False


class _Names(dict[bytes, _Seen]):
    """Of an object, the names that others may become or have become."""

    def __deepcopy__(self, memo: object) -> "_Names":
        return _Names(self)


class _Outer(NamedTuple):
    """What stood before a container, and how many were open then."""

    depth: int
    names: str
    last: str


class JsonGuard:
    """Guards one JSON document."""

    def __init__(self, open_text: OpenText) -> None:
        self._open_text = open_text
        #: Whether anything was replaced.
        self.is_changed = False
        #: A byte order mark that is to be passed on.
        self._mark = ""
        self._unread = ""
        #: Guards what turns out to be no JSON.
        self._plain: TextGuard | None = None
        self._has_begun = False
        self._bare = ""
        #: Whether the number under way is longer than anybody's.
        self._is_long = False
        #: Guards text outside of strings that is no JSON.
        self._stray: TextGuard | None = None
        self._string: TextGuard | None = None
        #: Tells of short values whether they pass.
        self._glance: TextGuard | None = None
        #: The characters of the string under way that its guard has, each as it is written.
        self._written: deque[tuple[int, str]] = deque()
        self._name: list[str] = []
        #: How the string under way ends as yet.
        self._ending = ""
        #: The name under way as it is passed on.
        self._said_name = _Said()
        #: Of open objects, by how many containers are open.
        self._seen_names: dict[int, _Names] = {}
        #: One of ``{`` and ``[`` for each container that is open.
        self._containers = bytearray()
        #: What stood before them where that differs from the one around it.
        self._outer: list[_Outer] = []
        self._is_name = False
        #: The names of fields that what comes is in.
        self._names = ""
        #: The string that came last, as far as it is in a container that is open.
        self._last = ""
        #: Whether it has turned out to be no JSON, and the last is whatever came last.
        self._is_prose = False

    def feed(self, text: str) -> str:
        """What may be passed on now that ``text`` has come; raises BlockedError, GUARDRAIL_FAILED."""
        if not self._has_begun:
            text, self._unread = self._unread + text, ""
            begun = text.removeprefix(_BYTE_ORDER_MARK).lstrip()
            if not begun or (len(begun) <= _LONGEST_SCALAR and _SCALAR_BEGINNING.fullmatch(begun)):
                self._unread = text
                return ""
            self._has_begun = True
            if _JSON_BEGINNING.match(text):
                text = self._take_mark(text)
            else:
                self._plain = self._open_text("")
        if self._plain is not None:
            return self._said(self._plain.feed(text))
        self._unread += text
        return self._advance(is_last=False)

    def close(self) -> str:
        """The rest; raises BlockedError, GUARDRAIL_FAILED."""
        if self._plain is not None:
            return self._said(self._plain.close())
        if not self._has_begun:
            self._unread = self._take_mark(self._unread)
        return self._advance(is_last=True)

    def _take_mark(self, text: str) -> str:
        unmarked = text.removeprefix(_BYTE_ORDER_MARK)
        self._mark = text[: len(text) - len(unmarked)]
        return unmarked

    def _advance(self, *, is_last: bool) -> str:
        text, place = self._unread, 0
        done, self._mark = [self._mark], ""
        try:
            while place < len(text):
                string = self._string
                if string is None:
                    place = self._read_outside(text, place, done)
                else:
                    following = self._read_string(string, text, place, done, is_last=is_last)
                    if following == place:
                        break
                    place = following
            if is_last:
                self._end_bare(done)
                if self._string is not None:
                    done.append(self._close_string(self._string))
        except BlockedError as blocked:
            blocked.parts = [
                *done,
                self._rewrite(blocked.parts) if self._string else said(blocked.parts),
            ]
            raise
        self._unread = text[place:]
        return "".join(done)

    def _read_outside(self, text: str, place: int, done: list[str]) -> int:
        run = _BARE_RUN.match(text, place)
        if run is not None:
            self._read_bare(run.group(), done)
            return run.end()
        self._end_bare(done)
        character = text[place]
        done.append(character)
        self._add_prose(character)
        match character:
            case '"':
                short = _SHORT_STRING.match(text, place + 1)
                if short is not None and self._passes(short[1]):
                    done.append(short[1])
                    self._add_prose(short[1] + '"')
                    if self._is_name:
                        self._end_name(short[1])
                        if _PLACEHOLDER.search(short[1]):
                            done.append(self._ending_of(_Said(short[1])))
                    else:
                        self._end_value(short[1])
                    done.append('"')
                    return short.end()
                self._string = self._open_text(self._context() if self._is_prose or not self._is_name else "")
                self._name = []
                self._ending = ""
                self._said_name = _Said()
            case "{" | "[":
                self._open_container(character)
                self._is_name = character == "{"
            case "}" | "]":
                if self._containers:
                    self._close_container()
                self._is_name = False
            case ",":
                self._is_name = self._containers.endswith(b"{")
            case ":":
                self._is_name = False
            case _:
                pass  # white space
        return place + 1

    def _open_container(self, character: str) -> None:
        depth = len(self._containers)
        before = (self._names, self._last)
        if not depth or (self._outer[-1][1:] != before and len(self._outer) < _MOST_CONTEXTS):
            self._outer.append(_Outer(depth, *before))
        self._containers += character.encode()

    def _close_container(self) -> None:
        self._seen_names.pop(len(self._containers), None)
        self._containers.pop()
        depth, self._names, last = self._outer[-1]
        if not self._is_prose:
            self._last = last
        if depth == len(self._containers):
            self._outer.pop()

    def _read_bare(self, text: str, done: list[str]) -> None:
        """Reads what stands outside of strings: a scalar, which is looked at when it ends, or no JSON."""
        while text:
            text = self._read_scalar(text, done)

    def _read_scalar(self, text: str, done: list[str]) -> str:
        """Reads on in a scalar or no JSON; gives what is to be read by itself."""
        if self._is_long:
            run = _NUMBER_RUN.match(text)
            end = run.end() if run else 0
            self._pass_bare(text[:end], done)
            self._is_long = end == len(text)
            return text[end:]
        if self._stray is not None:
            self._add_prose(text)
            done.append(self._said(self._stray.feed(text)))
            return ""
        if not self._bare:
            begun = text.lstrip()
            self._pass_bare(text[: len(text) - len(begun)], done)
            text = begun
        taken = text[: _LONGEST_SCALAR + 1 - len(self._bare)]
        rest = text[len(taken) :]
        self._bare += taken
        if self._bare and not _SCALAR_BEGINNING.fullmatch(self._bare):
            self._stray = self._open_text(self._context())
            if not self._is_prose:
                self._is_prose, self._last = True, f"{self._last}, " if self._last else ""
            bare, self._bare = self._bare, ""
            return bare + rest
        if len(self._bare) > _LONGEST_SCALAR:
            if self._bare[-1].isspace():
                self._end_bare(done)
            else:
                self._is_long = True
                self._pass_bare(self._bare, done)
                self._bare = ""
        return rest

    def _pass_bare(self, text: str, done: list[str]) -> None:
        self._add_prose(text)
        done.append(text)

    def _end_bare(self, done: list[str]) -> None:
        if self._stray is not None:
            stray, self._stray = self._stray, None
            done.append(self._said(stray.close()))
        bare, self._bare, self._is_long = self._bare, "", False
        if not bare:
            return
        context = self._context()
        self._add_prose(bare)
        scalar = bare.rstrip()
        if self._passes(scalar):
            done.append(bare)
            return
        guard = self._open_text(context)
        text = self._said([*guard.feed(scalar), *guard.close()])
        done.append(bare if text == scalar else bare.replace(scalar, json.dumps(text)))

    def _passes(self, text: str) -> bool:
        """Whether a short text passes as it is. JSON may be nothing but such, and each look costs."""
        if self._glance is None:
            self._glance = self._open_text("")
        return self._glance.passes(text)

    def _read_string(
        self, string: TextGuard, text: str, place: int, done: list[str], *, is_last: bool
    ) -> int:
        """Reads on in the string under way; gives ``place`` when it takes more to read on."""
        run = _STRING_RUN.match(text, place)
        if run is not None:
            done.append(self._feed_string(string, run.group(), run.group(), is_run=True))
            return run.end()
        if text[place] == '"':
            done.append(self._close_string(string) + '"')
            return place + 1
        escape = _ESCAPE.match(text, place)
        if escape is None:
            if not is_last and _ESCAPE_BEGINNING.fullmatch(text, place):
                return place
            done.append(self._feed_string(string, "\\", "\\"))
            return place + 1
        written = escape.group()
        if _HIGH.match(written):
            # The first half of a character that two escapes stand for.
            low = _LOW.match(text, escape.end())
            if low is not None:
                written += low.group()
            elif not is_last and (
                escape.end() == len(text) or _ESCAPE_BEGINNING.fullmatch(text, escape.end())
            ):
                return place
        meant = _ESCAPED.get(written[1], written[1]) if written[1] != "u" else json.loads(f'"{written}"')
        done.append(self._feed_string(string, meant, written))
        return place + len(written)

    def _feed_string(self, string: TextGuard, meant: str, written: str, *, is_run: bool = False) -> str:
        self._written.append((len(meant) if is_run else 0, written))
        if self._is_name and sum(map(len, self._name)) < _LONGEST_CONTEXT:
            self._name.append(meant)
        self._ending = (self._ending + meant[-_LONGEST_CONTEXT:])[-_LONGEST_CONTEXT:]
        return self._rewrite(string.feed(meant))

    def _close_string(self, string: TextGuard) -> str:
        rest = self._rewrite(string.close())
        self._string = None
        self._written.clear()
        self._add_prose(self._ending + '"')
        if self._is_name:
            self._end_name("".join(self._name))
            if self._said_name.may_collide or self._said_name.is_changed:
                rest += self._ending_of(self._said_name)
        else:
            self._end_value(self._ending)
        return rest

    def _ending_of(self, name: _Said) -> str:
        """What a name needs behind it to be none of its object's others.

        Names that were the same from the beginning stay it.
        """
        seen = self._seen_names.setdefault(len(self._containers), _Names())
        key = name.key()
        number, was_changed = seen.get(key, _Seen())
        if not number or not (was_changed or name.is_changed):
            seen[key] = _Seen(1, name.is_changed)
            return ""
        while True:
            number += 1
            ending = f"_{number}"
            if name.key(ending) not in seen:
                break
        seen[key] = _Seen(number, is_changed=True)
        seen[name.key(ending)] = _Seen(1, is_changed=True)
        self.is_changed = True
        return ending

    def _end_name(self, name: str) -> None:
        # As a sentence would have it: names are often in snake_case or camelCase. Of a long one its beginning
        # counts, however much of it came at a time.
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name[:_LONGEST_CONTEXT]).replace("_", " ")
        outer = self._outer[-1].names if self._outer else ""
        self._names = f"{outer}{name}: "[-_LONGEST_CONTEXT:]

    def _end_value(self, text: str) -> None:
        """A string ends that is no name; at least the last of it is ``text``."""
        if text.strip() and not self._is_prose:
            self._last = text[-_LONGEST_CONTEXT:]

    def _add_prose(self, text: str) -> None:
        """This comes in what is no JSON, if it is none."""
        if self._is_prose:
            self._last = (self._last + text[-_LONGEST_CONTEXT:])[-_LONGEST_CONTEXT:]

    def _context(self) -> str:
        """What stands before the next value: its names are the nearest."""
        if not self._last:
            return self._names
        last = self._last if self._is_prose else f"{self._last}, "
        names = self._names
        if len(self._last) <= _LONGEST_LABEL:
            names = names[-(_LONGEST_CONTEXT - len(last)) :]
        return (last + names)[-_LONGEST_CONTEXT:]

    def _rewrite(self, parts: list[Part]) -> str:
        """Parts of the string under way as they are to be written."""
        written: list[str] = []
        if self._is_name:
            self._said_name.add(said(parts))
        for part in parts:
            if isinstance(part, Replaced):
                self.is_changed = self._said_name.is_changed = True
                self._take(len(part.source))
                written.append(_escape(part.text))
            else:
                written.append(self._take(len(part)))
        return "".join(written)

    def _said(self, parts: list[Part]) -> str:
        self.is_changed |= any(isinstance(part, Replaced) for part in parts)
        return said(parts)

    def _take(self, length: int) -> str:
        """How the next ``length`` characters are written."""
        written: list[str] = []
        while length:
            length_meant, raw = self._written.popleft()
            if not length_meant:  # an escape, which stands for one character
                written.append(raw)
                length -= 1
                continue
            taken = min(length_meant, length)
            written.append(raw[:taken])
            length -= taken
            if taken < length_meant:
                self._written.appendleft((length_meant - taken, raw[taken:]))
        return "".join(written)


def _escape(text: str) -> str:
    """As it stands within a JSON string; only ASCII, so that it holds unpaired surrogates too."""
    return json.dumps(text)[1:-1]
