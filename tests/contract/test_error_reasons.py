"""What error_reason.proto tells readers is what the gateway does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.rpc import code_pb2

from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import CODE_BY_REASON

PROTO = Path(__file__).parents[2] / "proto/aigateway/v1/error_reason.proto"
_ENTRY = re.compile(r"((?:  //[^\n]*\n)+)  (ERROR_REASON_\w+) = \d+;")


def documented() -> dict[str, str]:
    """The comment of each reason as one line."""
    return {
        name: " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        for comment, name in _ENTRY.findall(PROTO.read_text())
    }


@pytest.mark.parametrize("reason", list(CODE_BY_REASON), ids=ErrorReason.Name)
def test_a_reasons_comment_names_its_code_and_its_metadata(reason: ErrorReason.ValueType) -> None:
    comment = documented()[ErrorReason.Name(reason)]
    code = re.match(r"[A-Z_]+", comment)
    assert code is not None
    assert code_pb2.Code.Value(code.group()) == CODE_BY_REASON[reason]
    assert "metadata: " in comment
