"""Signs requests to AWS with botocore's Signature Version 4, at a time that is told.

Loads botocore's signer, which takes a third of a second: import it off the event loop first.
"""

from datetime import UTC, datetime
from typing import Final

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from gateway_server.providers.aws_credentials import AwsKeys

Header = tuple[bytes, bytes]

#: The only header of ours that is signed, as boto3 does it, beside those of the signature itself.
_CONTENT_TYPE: Final = "content-type"


def sign(
    keys: AwsKeys,
    method: str,
    url: str,
    body: bytes,
    *,
    content_type: str,
    service: str,
    region: str,
    now: float,
) -> list[Header]:
    """The headers of a request, its signature among them; ``now`` is in seconds since the epoch.

    The path of the URL is escaped already; what is signed is escaped once more, as AWS wants it.
    """
    request = AWSRequest(
        method, url, data=body, headers={_CONTENT_TYPE: content_type} if content_type else {}
    )
    credentials = ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.session_token or None)
    _Signer(credentials, service, region, now).add_auth(request)
    return [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]


class _Signer(SigV4Auth):
    """botocore's signer, but for the clock, and without its notes in the log, which show session tokens."""

    def __init__(self, credentials: ReadOnlyCredentials, service: str, region: str, now: float) -> None:
        super().__init__(credentials, service, region)
        self._timestamp = datetime.fromtimestamp(now, UTC).strftime(SIGV4_TIMESTAMP)

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._timestamp
        # Made to be called by subclasses, but not in the published types.
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        signature = self.signature(to_sign, request)
        self._inject_signature_to_request(request, signature)  # type: ignore[attr-defined]
