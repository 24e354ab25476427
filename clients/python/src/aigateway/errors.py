"""Failures as exceptions: one class per family, made from a status and its details."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A fault of one request field: its path, as in ``messages[0].parts``, and what is wrong."""

    field: str
    description: str


class GatewayError(Exception):
    """A call that failed. Every exception that a call raises on purpose is one of these.

    ``reason`` is the gateway's word for it, for example ``RATE_LIMIT_EXCEEDED``; empty when the failure
    does not come from a gateway, for example when none could be reached. ``metadata`` holds the values
    behind the message. ``retry_after`` is in seconds, None when the gateway did not say. ``request_id``
    finds the call in the gateway's log and usage records.
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        request_id: str = "",
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after = retry_after
        self.request_id = request_id
        self.violations = violations


class StreamProtocolError(GatewayError):
    """A stream whose events do not add up to an answer: one is missing, comes twice or is not known."""

    default_code = grpc.StatusCode.INTERNAL
