"""The laws that fuzzing holds the parsers to, on the fuzzer's own inputs and a few changes of each."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_law_holds_for_what_the_fuzzer_begins_with(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].check(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_the_law_holds_for_changed_inputs(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @settings(max_examples=150, deadline=None)
    @given(number=st.integers(0, 2**32))
    def holds(number: int) -> None:
        random = Random(number)
        data = random.choice(seeds)
        for _ in range(random.randint(1, 6)):
            data = target.mutate(data, random)
        target.check(data)

    holds()
