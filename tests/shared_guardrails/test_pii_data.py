"""Personal data in labelled texts: what is found, what is flagged without cause, what leaks by cutting."""

import gzip
import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from gateway_server.guardrails.pii import RECOGNIZERS, Found, Piece, PiiScanner, scan, spans
from tests.support.shared import require_shared_dir

MUST = {"recall": 0.995, "precision": 0.98}


@cache
def rows() -> list[dict[str, Any]]:
    path = require_shared_dir() / "guardrails" / "pii_dev.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def scanner() -> PiiScanner:
    return PiiScanner(list(RECOGNIZERS.values()), min_score=0.6)


def overlaps(one: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] == other[2]


@pytest.mark.parametrize("entity_type", list(RECOGNIZERS))
def test_recall_and_precision(entity_type: str) -> None:
    counts: Counter[str] = Counter()
    for row in rows():
        labelled = [
            (each["start"], each["end"], each["type"]) for each in row["spans"] if each["type"] == entity_type
        ]
        found = [
            (each.start, each.end, each.entity_type)
            for each in spans(scan(scanner(), row["text"]))
            if each.entity_type == entity_type
        ]
        for start, end, _ in labelled:
            counts["missed"] += not any(one[0] <= start and end <= one[1] for one in found)
        counts["labelled"] += len(labelled)
        counts["found"] += len(found)
        counts["wrong"] += sum(not any(overlaps(one, each) for each in labelled) for one in found)

    assert 1 - counts["missed"] / counts["labelled"] >= MUST["recall"], counts
    assert 1 - counts["wrong"] / counts["found"] >= MUST["precision"], counts


def test_no_value_leaks_by_cutting_and_every_cutting_gives_the_same() -> None:
    def redacted(pieces: list[Piece]) -> str:
        return "".join(
            each if isinstance(each, str) else "" if each.continues else f"[{each.entity_type}]"
            for each in pieces
        )

    cut_texts = [row for row in rows() if row.get("chunks")]
    assert len(cut_texts) >= 1500
    for row in cut_texts:
        text = row["text"]
        whole = scan(scanner(), text)
        for cuts in (row["chunks"], range(1, len(text))):
            streaming, pieces, start = scanner(), list[Piece](), 0
            for cut in (*cuts, len(text)):
                pieces += streaming.feed(text[start:cut])
                start = cut
            pieces += streaming.close()
            assert redacted(pieces) == redacted(whole)
            assert (
                sum(isinstance(each, Found) for each in pieces) >= len(row["spans"]) > 0 or not row["spans"]
            )
