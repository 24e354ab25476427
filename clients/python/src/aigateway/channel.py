"""Where the gateway is and how to reach it: target, credentials, and what gRPC is told about the channel."""

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import grpc

from aigateway._version import __version__

DEFAULT_TARGET: Final = "localhost:50051"
TARGET_VARIABLE: Final = "AIGW_TARGET"
API_KEY_VARIABLE: Final = "AIGW_API_KEY"
#: Seconds, as the default of the gateway itself.
DEFAULT_TIMEOUT: Final = 300.0

_MAX_RECEIVE_BYTES: Final = 64 * 2**20
# gRPC forgets a request that does not fit in here and then cannot retry it.
_RETRY_BUFFER_BYTES: Final = 8 * 2**20

# What may be sent twice. Reads change nothing. A model that is asked again gives another answer, and what
# the lost one cost may be spent twice, but nothing else happens. Writes are not here: the first try may
# have been carried out although its answer was lost.
_RETRIED_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "aigateway.v1.ChatService": (
        "CreateChatCompletion",
        "StreamChatCompletion",
        "CountTokens",
        "ExplainRoute",
    ),
    "aigateway.v1.EmbeddingsService": ("CreateEmbeddings",),
    "aigateway.v1.UsageService": ("ListUsageRecords", "QueryUsage", "GetLimitUsage"),
    "aigateway.v1.AdminService": (
        "GetTenant",
        "ListTenants",
        "GetApiKey",
        "ListApiKeys",
        "GetGuardrailProfile",
        "ListGuardrailProfiles",
        "TestGuardrailProfile",
        "GetProvider",
        "ListProviders",
        "CheckProvider",
        "GetModel",
        "ListModels",
        "GetRoute",
        "ListRoutes",
        "ListTargetStates",
        "ListAuditEvents",
    ),
}


@dataclass(frozen=True, slots=True)
class Tls:
    """How to secure the channel, as paths of PEM files.

    ``ca_file`` holds the certificates to trust in place of the public ones. ``cert_file`` and ``key_file``
    go together and are this side's own (mTLS). ``server_name`` is the name that the server's certificate
    must have, when it is not the one in the target.
    """

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """The files as gRPC wants them; raises OSError when one cannot be read."""
        if bool(self.cert_file) is not bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file),
            private_key=_read(self.key_file),
            certificate_chain=_read(self.cert_file),
        )


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """All that a channel is made from. Without credentials it is in plain text."""

    target: str
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, str | int], ...]


def configure_channel(
    target: str | None, *, tls: Tls | None = None, insecure: bool = False, max_attempts: int = 4
) -> ChannelConfig:
    """Fills in the defaults and decides between TLS and plain text.

    Plain text when ``insecure`` says so, or when nothing was said and the target is on this machine; TLS
    in every other case. Raises ValueError for what does not fit together.
    """
    target = target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET
    scheme, separator, rest = target.partition("://")
    if separator and scheme in {"http", "https", "grpc", "grpcs"}:
        raise ValueError(f"the target is host:port, not a URL: use {rest.rstrip('/')!r}")
    if insecure and tls is not None:
        raise ValueError("insecure and tls exclude each other")
    if max_attempts < 1:
        raise ValueError("max_attempts counts the first try and is at least 1")
    options: dict[str, str | int] = {
        "grpc.primary_user_agent": f"ai-gateway-sdk-python/{__version__}",
        "grpc.service_config": _service_config(max_attempts),
        "grpc.enable_retries": int(max_attempts > 1),
        "grpc.per_rpc_retry_buffer_size": _RETRY_BUFFER_BYTES,
        "grpc.max_receive_message_length": _MAX_RECEIVE_BYTES,
        "grpc.max_send_message_length": -1,  # the gateway has its own limit and says so
        # A model may think for minutes without a byte; pings keep the connection alive, and tell when it is
        # dead. The gateway allows one every ten seconds.
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.max_pings_without_data": 0,
    }
    credentials = None
    if not insecure and (tls is not None or not _is_loopback(target)):
        tls = tls or Tls()
        credentials = tls.credentials()
        if tls.server_name:
            options["grpc.ssl_target_name_override"] = tls.server_name
    return ChannelConfig(target, credentials, tuple(options.items()))


def resolve_api_key(api_key: str | None) -> str:
    """The key that was given, else the one in the environment, else none; surrounding blanks are dropped."""
    key = (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        # Sent as it is, gRPC would refuse the header and quote the key in its error.
        raise ValueError("the API key holds characters that no key has")
    return key


def _service_config(max_attempts: int) -> str:
    if max_attempts == 1:
        return "{}"
    methods = [
        {"service": service, "method": method}
        for service, names in _RETRIED_METHODS.items()
        for method in names
    ]
    policy = {
        "maxAttempts": max_attempts,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "methodConfig": [{"name": methods, "retryPolicy": policy}],
            # When most calls fail, retries stop: they would only add to the load.
            "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
        }
    )


def _is_loopback(target: str) -> bool:
    """Whether a target of gRPC's name syntax is on this machine."""
    scheme, separator, rest = target.partition(":")
    if separator and scheme in {"unix", "unix-abstract"}:
        return True
    if separator and scheme in {"dns", "ipv4", "ipv6"}:
        # dns://authority/host:port, or scheme:host:port[,host:port]
        target = rest.rpartition("/")[2] if rest.startswith("//") else rest
    return all(_is_loopback_address(unquote(address)) for address in target.split(","))


def _is_loopback_address(address: str) -> bool:
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") > 1:
        host = address
    else:
        host = address.partition(":")[0]
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _read(path: str | Path | None) -> bytes | None:
    return Path(path).read_bytes() if path else None
