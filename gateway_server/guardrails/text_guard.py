"""All rules on one text that comes in pieces: what may be passed on, and what stands where values were."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from gateway_server.guardrails.detectors import Patterns, Personal, SpanDetector, TextDetector, placeholder_of
from gateway_server.guardrails.machines import SentenceMachine, SpanMachine
from gateway_server.guardrails.pii import Found, Piece
from gateway_server.guardrails.rules import BLOCK, LOG, REDACT, CheckTimeoutError, Tally
from gateway_server.guardrails.vault import Restorer, Vault

#: How many characters are looked at in one go, between two looks at the clock.
STEP: Final = 16_384


@dataclass(frozen=True, slots=True)
class Replaced:
    """``text`` stands where the model or the caller had written ``source``."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A rule has found something before this place. It counts when the place is passed on."""

    tally: Tally
    kinds: tuple[str, ...]
    score: float | None = None


#: What a text is passed on as: in its own words, or replaced.
Part = str | Replaced
_Step = Part | Noted


def said(parts: Sequence[Part]) -> str:
    """What is passed on."""
    return "".join(part if isinstance(part, str) else part.text for part in parts)


class BlockedError(Exception):
    """A rule stops a text; ``parts`` are what of it came before and may still be passed on."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally.rule.rule_id)
        self.tally = tally
        self.parts: list[Part] = []


class _StopError(Exception):
    """A stage stops the text after ``steps`` for what is noted last."""

    def __init__(self, noted: Noted, steps: list[_Step]) -> None:
        super().__init__(noted.tally.rule.rule_id)
        self.noted = noted
        self.steps = steps


class _Stage:
    """One rule on one text, between the rules before and after it.

    What was replaced by a rule before is not looked at again, and ends what is before it.
    """

    @abstractmethod
    def may_find(self, text: str) -> bool:
        """False where nothing can be found in a short text by itself, which is quicker to tell."""

    @abstractmethod
    def feed(self, text: str) -> list[_Step]:
        """What may be passed on now that ``text`` has come; raises _StopError."""

    @abstractmethod
    def close(self) -> list[_Step]:
        """The rest, and the stage is as new; raises _StopError."""


class _RuleStage(_Stage):
    """Keeps the rule's books, and its policy for when the check cannot run."""

    def __init__(self, tally: Tally, *, holds: bool) -> None:
        """``holds`` tells that text waits until it is decided; else it is only looked at."""
        self.tally = tally
        self.holds = holds
        self._is_let_go = False

    def feed(self, text: str) -> list[_Step]:
        return self._let_go(text) if self.tally.failure else self._run(text, is_last=False)

    def close(self) -> list[_Step]:
        return self._let_go("") if self.tally.failure else self._run("", is_last=True)

    def _let_go(self, text: str) -> list[_Step]:
        """Passes on what comes, and before it what waited when the check failed, here or on another text."""
        self.tally.require()
        if self.holds and not self._is_let_go:
            text = self.held + text
        self._is_let_go = True
        return [text] if text else []

    def _run(self, text: str, *, is_last: bool) -> list[_Step]:
        tally = self.tally
        tally.has_looked = tally.is_looking = True
        started_at = time.perf_counter()
        unseen = self.held + text if self.holds else text
        try:
            steps = self.check(text, is_last=is_last)
            tally.spend(started_at)
        except _StopError:
            raise
        except (CheckTimeoutError, TimeoutError):
            tally.fail("timeout")
        except Exception as error:  # noqa: BLE001 -- whatever a detector does, the rule's policy decides
            tally.fail_by(error)
        else:
            if self.holds:
                return steps
            noted: list[_Step] = [step for step in steps if isinstance(step, Noted)]
            return [text, *noted] if text else noted
        finally:
            tally.is_looking = False
        self._is_let_go = True
        return [unseen] if unseen else []

    @property
    @abstractmethod
    def held(self) -> str:
        """What waits."""

    @abstractmethod
    def check(self, text: str, *, is_last: bool) -> list[_Step]:
        """Looks at ``text``; ``is_last`` tells that it ends, and that another may begin."""


class _SpanStage(_RuleStage):
    """Finds values, and masks them, counts them, or stops at the first."""

    def __init__(
        self,
        tally: Tally,
        detector: SpanDetector,
        open_machines: Callable[[], Sequence[SpanMachine]],
        *,
        holds: bool,
        vault: Vault | None,
    ) -> None:
        super().__init__(tally, holds=holds or tally.rule.action != LOG)
        self._open = open_machines
        self._machines = open_machines()
        self._detector = detector
        self._vault = vault if isinstance(detector, Personal) else None
        #: A value that may go on, where a number is to stand for the whole of it.
        self._begun: Found | None = None

    def may_find(self, text: str) -> bool:
        return bool(self.tally.failure) or self._detector.may_find(text)

    @property
    def held(self) -> str:
        begun = self._begun.text if self._begun else ""
        return begun + "".join(machine.held for machine in reversed(self._machines))

    def check(self, text: str, *, is_last: bool) -> list[_Step]:
        pieces: list[Piece] = [text] if text else []
        for machine in self._machines:
            pieces = list(_through(machine, pieces, is_last=is_last))
        if self._vault is not None:
            pieces = list(self._whole(pieces, is_last=is_last))
        if is_last:
            self._machines = self._open()
        action = self.tally.rule.action
        steps: list[_Step] = []
        for piece in pieces:
            if isinstance(piece, str):
                steps.append(piece)
                continue
            if action == BLOCK:
                raise _StopError(Noted(self.tally, (piece.entity_type,)), steps)
            steps.append(Replaced(self._mask(piece), piece.text) if action == REDACT else piece.text)
            if not piece.continues:
                steps.append(Noted(self.tally, (piece.entity_type,)))
        return steps

    def _whole(self, pieces: list[Piece], *, is_last: bool) -> Iterator[Piece]:
        """The same with each value in one piece."""
        for piece in pieces:
            if isinstance(piece, Found) and piece.continues and self._begun is not None:
                self._begun = replace(self._begun, text=self._begun.text + piece.text)
                continue
            if self._begun is not None:
                yield self._begun
            self._begun = piece if isinstance(piece, Found) else None
            if isinstance(piece, str):
                yield piece
        if is_last and self._begun is not None:
            yield self._begun
            self._begun = None

    def _mask(self, found: Found) -> str:
        if found.continues:
            return ""
        kind = placeholder_of(found.entity_type)
        return f"[{kind}_REDACTED]" if self._vault is None else self._vault.put(kind, found.text)


class _SentenceStage(_RuleStage):
    """Judges sentence by sentence, each with the one before it; to stop a text, it holds a sentence back."""

    def __init__(self, tally: Tally, detector: TextDetector, *, holds: bool) -> None:
        super().__init__(tally, holds=holds or tally.rule.action == BLOCK)
        self._detector = detector
        self._sentences = SentenceMachine()
        self._before = ""

    def may_find(self, text: str) -> bool:
        return True  # its score counts, however low

    @property
    def held(self) -> str:
        return self._sentences.held

    def check(self, text: str, *, is_last: bool) -> list[_Step]:
        sentences = self._sentences.feed(text) if text else []
        if is_last:
            sentences += self._sentences.close()
        steps: list[_Step] = []
        for sentence in sentences:
            if sentence.strip():
                judged = self.tally.judge(self._detector, self._before + sentence, is_retrieved=False)
                self._before = sentence
                if judged.kinds and self.tally.rule.action == BLOCK:
                    raise _StopError(Noted(self.tally, judged.kinds, judged.score), steps)
                steps.append(Noted(self.tally, judged.kinds, judged.score))
            steps.append(sentence)
        return steps


class _RestoringStage(_Stage):
    """Puts values back that were masked on the way in."""

    def __init__(self, vault: Vault) -> None:
        self._restorer = Restorer(vault)

    def may_find(self, text: str) -> bool:
        return "[" in text

    def feed(self, text: str) -> list[_Step]:
        return [
            source if text is None else Replaced(text, source) for source, text in self._restorer.feed(text)
        ]

    def close(self) -> list[_Step]:
        return [source if text is None else Replaced(text, source) for source, text in self._restorer.close()]


class TextGuard:
    """All rules on one text, in order."""

    def __init__(
        self,
        tallies: Sequence[Tally],
        *,
        context: str = "",
        window: int = 0,
        masks_into: Vault | None = None,
        restores_from: Vault | None = None,
    ) -> None:
        """``context`` is what stands before the text; ``window`` the most that is held back, 0 the default.

        Personal data is masked by numbers into one vault; placeholders of the other are put back at the end.
        """
        self._tallies = tallies
        self._stages: list[_Stage] = []
        last_block = max((i for i, tally in enumerate(tallies) if tally.rule.action == BLOCK), default=-1)
        for index, tally in enumerate(tallies):
            # What is found counts if it comes before what stops the text, so nothing may run ahead.
            holds = index < last_block
            detector = tally.rule.detector
            if isinstance(detector, Personal | Patterns):
                machines = partial(detector.open, context, window)
                self._stages.append(_SpanStage(tally, detector, machines, holds=holds, vault=masks_into))
            else:
                self._stages.append(_SentenceStage(tally, detector, holds=holds))
        if restores_from:
            self._stages.append(_RestoringStage(restores_from))

    def passes(self, text: str) -> bool:
        """Whether a short text by itself passes as it is, which is quicker to tell than by feeding it.

        It counts as looked at then.
        """
        if any(stage.may_find(text) for stage in self._stages):
            return False
        for tally in self._tallies:
            tally.has_looked = True
        return True

    def feed(self, text: str) -> list[Part]:
        """What may be passed on now that ``text`` has come; raises BlockedError, GUARDRAIL_FAILED."""
        return self._deliver([text] if text else [], is_last=False)

    def close(self) -> list[Part]:
        """The rest; raises BlockedError, GUARDRAIL_FAILED."""
        return self._deliver([], is_last=True)

    def _deliver(self, steps: list[_Step], *, is_last: bool) -> list[Part]:
        stopped: _StopError | None = None
        for stage in self._stages:
            done: list[_Step] = []
            try:
                for step in steps:
                    if isinstance(step, str):
                        done += stage.feed(step)
                        continue
                    if isinstance(step, Replaced):
                        done += stage.close()
                    done.append(step)
                if is_last:
                    done += stage.close()
            except _StopError as error:
                # What came before goes on through the rules that follow, and ends there.
                stopped, is_last = error, True
                done += error.steps
            steps = done
        parts = [step for step in steps if not isinstance(step, Noted)]
        for step in steps:
            if isinstance(step, Noted):
                step.tally.note(step.kinds, step.score)
        if stopped is not None:
            stopped.noted.tally.note(stopped.noted.kinds, stopped.noted.score)
            blocked = BlockedError(stopped.noted.tally)
            blocked.parts = parts
            raise blocked from None
        return parts


def _through(machine: SpanMachine, pieces: list[Piece], *, is_last: bool) -> Iterator[Piece]:
    for piece in pieces:
        if isinstance(piece, str):
            yield from machine.feed(piece)
        else:
            yield from machine.close()
            yield piece
    if is_last:
        yield from machine.close()
