"""Request bytes as a valid message: parsing, and the rules that stand in the protos."""

from typing import Final

import protovalidate
from google.protobuf.message import DecodeError, Message

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import FieldViolation, GatewayError
from gateway_server.rpc.methods import Method
from gateway_server.rpc.plain_requests import is_plainly_valid

_MAX_VIOLATIONS: Final = 16
#: Of a larger request only the first fault is looked for: two bytes are enough for a fault, and naming one
#: costs a kilobyte and tens of microseconds.
_MAX_BYTES_FOR_ALL: Final = 64 * 1024


def parse_request(method: Method, data: bytes) -> Message:
    """The request in ``data``; raises INVALID_REQUEST naming each field that breaks a rule."""
    try:
        request = method.request_type.FromString(data)
    except DecodeError:
        raise GatewayError(
            ErrorReason.ERROR_REASON_INVALID_REQUEST,
            f"the request is not a valid {method.request_type.DESCRIPTOR.full_name}",
        ) from None
    if isinstance(request, CreateChatCompletionRequest) and is_plainly_valid(request):
        return request
    violations = protovalidate.collect_violations(request, fail_fast=len(data) > _MAX_BYTES_FOR_ALL)
    if violations:
        raise _invalid(violations)
    return request


def _invalid(violations: list[protovalidate.Violation]) -> GatewayError:
    faults = tuple(
        FieldViolation(_path(violation), violation.proto.message)
        for violation in violations[:_MAX_VIOLATIONS]
    )
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return GatewayError(
        ErrorReason.ERROR_REASON_INVALID_REQUEST,
        f"{faults[0].field}: {faults[0].description}{more}",
        violations=faults,
    )


def _path(violation: protovalidate.Violation) -> str:
    """The field as ``messages[0].parts``, or the oneof that lacks a choice."""
    steps: list[str] = []
    for element in violation.proto.field.elements if violation.proto.field else ():
        step = element.field_name
        if element.subscript is not None:
            step += f"[{element.subscript.value}]"
        steps.append(step)
    return ".".join(steps) or "request"
