"""The edge where JSON arrives: what is told when it is not what it should be, and Structs both ways."""

import json

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_server.providers.wire.json_values import (
    ExactText,
    MalformedAnswerError,
    dump_exactly,
    from_struct,
    get_count,
    parse_object,
    to_struct,
)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b"<!DOCTYPE html><p>Bad gateway", "the body is HTML or XML, not JSON"),
        (b'{"a": "\xff"}', "the body is not UTF-8"),
        (b'{"a": ', "the body is not JSON"),
        (b'{"a": "\\ud800"}', "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
        (b"[]", "the body is not a JSON object"),
        (b"null", "the body is not a JSON object"),
    ],
)
def test_tells_why_a_body_is_no_answer(body: bytes, cause: str) -> None:
    with pytest.raises(MalformedAnswerError) as caught:
        parse_object(body)

    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (None, 0),
        (7, 7),
        (7.0, 7),
        (-1, "x.n is negative"),
        (2**60, "x.n is too large"),
        (1e300, "x.n is too large"),
        (1.5, "x.n is not a whole number"),
        ("7", "x.n is not a whole number"),
        (True, "x.n is not a whole number"),
        ([], "x.n is not a whole number"),
    ],
)
def test_counts_are_whole_and_not_negative(value: object, outcome: int | str) -> None:
    if isinstance(outcome, int):
        assert get_count({"n": value}, "n", "x") == outcome
    else:
        with pytest.raises(MalformedAnswerError, match=outcome):
            get_count({"n": value}, "n", "x")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_struct_holds_what_the_object_held(values: dict[str, object]) -> None:
    struct = to_struct(values)

    assert MessageToDict(struct) == json.loads(json.dumps(values))
    assert from_struct(struct) == values


def test_whole_numbers_of_a_struct_become_integers() -> None:
    struct = Struct()
    struct.update({"a": 3.0, "b": 0.5, "c": [1e20], "d": None})

    assert json.dumps(from_struct(struct), sort_keys=True) == '{"a": 3, "b": 0.5, "c": [1e+20], "d": null}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_cannot_say_are_refused(value: float) -> None:
    struct = Struct()
    struct.fields["a"].list_value.values.add(number_value=value)

    with pytest.raises(ValueError, match="is not a finite number"):
        from_struct(struct)


def test_what_is_nested_too_deeply_for_protobuf_is_replaced_by_a_remark() -> None:
    deep: dict[str, object] = {"bottom": 1}
    for _ in range(300):
        deep = {"down": deep}

    struct = to_struct(deep)

    assert "(nested too deeply)" in str(struct)
    assert Struct.FromString(struct.SerializeToString()) == struct


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'{"a":[', b"]}")])
@pytest.mark.parametrize("number", [b"1", b"9" * 30])
def test_what_is_nested_too_deeply_to_be_written_again_is_refused(
    opening: bytes, closing: bytes, number: bytes
) -> None:
    body = b'{"block":' + opening * 500 + number + closing * 500 + b"}"
    value = parse_object(body)["block"]

    with pytest.raises(MalformedAnswerError, match="block"):
        dump_exactly(value, ExactText(body), "block")
