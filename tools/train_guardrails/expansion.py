"""A grammar's sentences: ``{one|other}`` is a choice, ``<name>`` a rule of the grammar."""

import random
import re
from collections.abc import Mapping, Sequence

_CHOICE = re.compile(r"\{([^{}]*)\}")
_RULE = re.compile(r"<([a-z_]+)>")


def expand(rng: random.Random, template: str, rules: Mapping[str, Sequence[str]]) -> str:
    """One sentence that the template can make."""
    while (found := _CHOICE.search(template)) or (found := _RULE.search(template)):
        if found.re is _RULE:
            options: Sequence[str] = rules[found[1]]
        else:
            options = found[1].split("|")
        template = template[: found.start()] + rng.choice(options) + template[found.end() :]
    return (
        template.replace("((", "<").replace("))", ">").replace("[[", "{").replace("]]", "}").replace("¦", "|")
    )
