"""All rules on what goes to a model."""

import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from aigateway.v1.guardrail_profile_pb2 import GuardrailPart
from gateway_server.guardrails.detectors import Patterns, Personal, TextDetector
from gateway_server.guardrails.json_guard import JsonGuard
from gateway_server.guardrails.parts import IDENTIFIER
from gateway_server.guardrails.pii.matches import CONTEXT
from gateway_server.guardrails.request_texts import Request, Slot, slots_of
from gateway_server.guardrails.rules import (
    BLOCK,
    CheckTimeoutError,
    Tally,
    guardrail_blocked,
)
from gateway_server.guardrails.text_guard import STEP, BlockedError, TextGuard, said
from gateway_server.guardrails.vault import Vault

#: How much of one step a text detector sees again in the next.
_OVERLAP: Final = 1_000


class RequestGuard:
    """Applies rules to a request, one after another, each to what the one before has left."""

    def __init__(self, tallies: Iterable[Tally], vault: Vault | None) -> None:
        self._tallies = list(tallies)
        self._vault = vault
        #: The rule that is at work, for whoever waits for it.
        self.current: Tally | None = None
        #: Set by whoever no longer waits.
        self.is_given_up = False

    def apply(self, request: Request, texts: list[Slot] | None = None) -> None:
        """Changes the request as the rules want; ``texts`` are its slots, where they are known already.

        Raises GUARDRAIL_BLOCKED, GUARDRAIL_FAILED.
        """
        if texts is None:
            texts = slots_of(request)
        for tally in self._tallies:
            if tally.failure:
                tally.require()
                continue
            self.current = tally
            chosen = [slot for slot in texts if tally.rule.reads(slot.role, slot.part)]
            self._note_unread(tally, chosen)
            slots = [slot for slot in chosen if slot.text]
            if not slots:
                continue
            tally.has_looked = True
            detector = tally.rule.detector
            if not isinstance(detector, Personal | Patterns):
                self._judge(tally, detector, slots)
                continue
            rewritten = [
                self._rewrite(tally, slot, before) for before, slot in pairwise([None, *slots]) if slot
            ]
            if any(rewritten):
                texts = slots_of(request)

    def _note_unread(self, tally: Tally, slots: list[Slot]) -> None:
        """Raises GUARDRAIL_BLOCKED where the rule wants to have read what cannot be."""
        for slot in slots:
            if slot.is_unread:
                tally.note_unread(slot.part)
        if tally.is_stopped:
            raise guardrail_blocked(tally)

    def _rewrite(self, tally: Tally, slot: Slot, before: Slot | None) -> bool:
        """Masks what one rule finds in one text, which ``before`` may stand before."""
        detector = tally.rule.detector
        if isinstance(detector, Personal) and not slot.is_json and not detector.may_find(slot.text):
            return False

        def open_text(context: str) -> TextGuard:
            return TextGuard([tally], context=context, masks_into=self._vault)

        guard = JsonGuard(open_text) if slot.is_json else open_text(_context_of(slot, before))
        pieces: list[str] = []
        try:
            for start in range(0, len(slot.text), STEP):
                self._require_time()
                fed = guard.feed(slot.text[start : start + STEP])
                pieces.append(fed if isinstance(fed, str) else said(fed))
            closed = guard.close()
            pieces.append(closed if isinstance(closed, str) else said(closed))
        except BlockedError:
            raise guardrail_blocked(tally) from None
        text = "".join(pieces)
        if tally.failure or text == slot.text:
            return False
        if slot.is_name:
            tally.is_stopped = True
            raise guardrail_blocked(tally)
        slot.write(text)
        return True

    def _judge(self, tally: Tally, detector: TextDetector, slots: list[Slot]) -> None:
        """Judges what a model reads together as one text."""
        groups: dict[tuple[int, bool], list[str]] = {}
        for slot in slots:
            if slot.is_name and IDENTIFIER.fullmatch(slot.text):
                continue
            groups.setdefault((slot.group, slot.is_retrieved), []).append(slot.text)
        for (_, is_retrieved), texts in groups.items():
            text = "\n".join(texts)
            for start in range(0, max(len(text) - _OVERLAP, 1), STEP - _OVERLAP):
                if not self._judge_text(
                    tally, detector, text[start : start + STEP], is_retrieved=is_retrieved
                ):
                    return

    def _judge_text(self, tally: Tally, detector: TextDetector, text: str, *, is_retrieved: bool) -> bool:
        """Whether the check could run. Raises GUARDRAIL_BLOCKED, GUARDRAIL_FAILED."""
        started_at = time.perf_counter()
        try:
            self._require_time()
            judged = tally.judge(detector, text, is_retrieved=is_retrieved)
            tally.spend(started_at)
        except CheckTimeoutError:
            tally.fail("timeout")
            return False
        except Exception as error:  # noqa: BLE001 -- whatever a detector does, the rule's policy decides
            tally.fail_by(error)
            return False
        tally.note(judged.kinds, judged.score)
        if judged.kinds and tally.rule.action == BLOCK:
            raise guardrail_blocked(tally)
        return True

    def _require_time(self) -> None:
        if self.is_given_up:
            raise CheckTimeoutError


def _context_of(slot: Slot, before: Slot | None) -> str:
    """What a model reads right before a text: words of a turn may come in several parts."""
    if (
        before is None
        or slot.part != GuardrailPart.GUARDRAIL_PART_TEXT
        or (before.group, before.part) != (slot.group, slot.part)
        or before.is_json
    ):
        return ""
    return before.text[-CONTEXT:]
