from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from gateway_server.storage.usage_records import AllOf, AnyOf, Condition, Not
from gateway_server.usage.filter import MAX_CONDITIONS, parse_filter

TEXT_FIELDS = ("model", "method", "provider_model", "error_reason", "end_user_id", "environment")


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("", ()),
        ("  \n ", ()),
        ('model = "balanced"', (Condition("model", "balanced"),)),
        ("model=balanced", (Condition("model", "balanced"),)),
        ("model = openai/gpt-4o", (Condition("model", "openai/gpt-4o"),)),
        ("method != 'CreateEmbeddings'", (Condition("method", "CreateEmbeddings", equal=False),)),
        ("status_code = 14", (Condition("status_code", 14),)),
        ('error_reason = ""', (Condition("error_reason", ""),)),
        ('model = "a \\"b\\" \\\\ c"', (Condition("model", 'a "b" \\ c'),)),
        ('model = "it\'s"', (Condition("model", "it's"),)),
        ('model = "x AND y = z"', (Condition("model", "x AND y = z"),)),
        ('model = "AND"', (Condition("model", "AND"),)),
        ("labels.team = search", (Condition("labels", "search", label="team"),)),
        ("labels.a.b = c", (Condition("labels", "c", label="a.b"),)),
        ('labels."cost center" != "x"', (Condition("labels", "x", equal=False, label="cost center"),)),
        ("provider = providers/openai", (Condition("provider", "openai"),)),
        ('provider = ""', (Condition("provider", ""),)),
        ("api_key = tenants/a/apiKeys/k", (Condition("api_key", "tenants/a/apiKeys/k"),)),
        (
            'model = "balanced" AND status_code != 0',
            (Condition("model", "balanced"), Condition("status_code", 0, equal=False)),
        ),
        ('model="a"AND method="b"', (Condition("model", "a"), Condition("method", "b"))),
        ("NOT model = x", (Not(Condition("model", "x")),)),
        ("model = x OR model = y", (AnyOf((Condition("model", "x"), Condition("model", "y"))),)),
        (
            "method = a AND model = x OR model = y",  # OR binds tighter
            (Condition("method", "a"), AnyOf((Condition("model", "x"), Condition("model", "y")))),
        ),
        (
            "(method = a AND model = x) OR model = y",
            (AnyOf((AllOf((Condition("method", "a"), Condition("model", "x"))), Condition("model", "y"))),),
        ),
        ("latency >= 1.5s", (Condition("latency_micros", 1_500_000, order=">="),)),
        ("time_to_first_token < 200ms", (Condition("time_to_first_token_micros", 200_000, order="<"),)),
        ("usage.total_tokens > 1000", (Condition("total_tokens", 1000, order=">"),)),
        ("cost.total_nanos <= 5", (Condition("cost_nanos", 5, order="<="),)),
    ],
)
def test_a_filter_is_its_conditions(text: str, conditions: tuple[Condition, ...]) -> None:
    assert parse_filter(text) == conditions


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model", "at character 6: = or != is expected"),
        ("model =", "at character 8: a value is expected"),
        ('end_user_id = "a\0b"', "at character 17: a NUL stands in no text"),
        ("model = \0", "at character 9: a NUL stands in no text"),
        ("labels.a\0b = x", "at character 9: a NUL stands in no text"),
        ("model = AND", "at character 9: a value is expected"),
        ("= x", "at character 1: the name of a field is expected"),
        ('"model" = x', "at character 1: the name of a field is expected"),
        ("model = x method = y", "at character 11: AND or OR is expected"),
        ("model = x and method = y", "at character 11: AND or OR is expected"),
        ("model = x)", "at character 10: AND or OR is expected"),
        ("(model = x", "at character 11: AND, OR or ) is expected"),
        ("model > x", "only numbers and durations have an order"),
        ("labels.a < x", "only numbers and durations have an order"),
        ("latency > 2", "at character 11: a duration such as 1.5s"),
        ("usage.total_tokens > many", "at character 22: a whole number is expected"),
        ("(" * 40 + "model = x", "too many brackets"),
        ("model = x AND", "at character 14: the name of a field is expected"),
        ("AND model = x", "at character 1: the name of a field is expected"),
        ("NOT NOT model = x", "at character 5: the name of a field is expected"),
        ("model : x", "at character 7: cannot be read"),
        ("status_code = x", "at character 15: a whole number is expected"),
        ('status_code = "14"', "at character 15: a whole number is expected"),
        ("status_code = -1", "at character 15: a whole number is expected"),
        ("status_code = \u0663", "at character 15: a whole number is expected"),
        ("status_code = 2147483648", "at character 15: the number is too large"),
        ("status_code = " + "9" * 2000, "at character 15: the number is too large"),
        ('model = "open', "at character 9: cannot be read"),
        ("tenant = x", "at character 1: there is no field 'tenant'"),
        ("labels = x", "at character 1: there is no field 'labels'"),
        ("labels. 'a' = x", "at character 9: = or != is expected"),
        ("labels. = x", "at character 1: there is no field 'labels.'"),
        ("labels.'' = x", "at character 8: a label without"),
        ("labels.'a\"b' = x", "at character 8: a label without"),
        ("provider = openai", "must have the form providers/{provider}"),
        ("api_key = k", "must have the form tenants/{tenant}/apiKeys/{api_key}"),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_filter(text)
    assert caught.value.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST
    (violation,) = caught.value.violations
    assert violation.field == "filter"
    assert fault in violation.description


def test_a_filter_has_a_bound() -> None:
    assert len(parse_filter(" AND ".join(["model = x"] * MAX_CONDITIONS))) == MAX_CONDITIONS
    with pytest.raises(GatewayError):
        parse_filter(" AND ".join(["model = x"] * (MAX_CONDITIONS + 1)))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    reason = None
    try:
        parse_filter(text)
    except GatewayError as error:
        reason = error.reason
    assert reason in {None, ErrorReason.ERROR_REASON_INVALID_REQUEST}


#: What stands in a record: PostgreSQL has no NUL.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(st.sampled_from(TEXT_FIELDS), TEXTS, st.booleans()), max_size=5))
def test_what_is_written_with_quotes_is_read_back(conditions: list[tuple[str, str, bool]]) -> None:
    written = " AND ".join(
        '{} {} "{}"'.format(field, "=" if equal else "!=", value.replace("\\", "\\\\").replace('"', '\\"'))
        for field, value, equal in conditions
    )
    assert parse_filter(written) == tuple(
        Condition(field, value, equal=equal) for field, value, equal in conditions
    )
