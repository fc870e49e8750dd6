"""Authenticates callers, by the HMAC signature of an access key or by an Entra ID token.

learn.microsoft.com/rest/api/communication/authentication.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from werkzeug.datastructures import Headers

from local_azure.communication.errors import refuse_caller
from local_azure.signing import KeyRing

SKEW_SECONDS = 15 * 60
# The SDK asks for the scope `https://communication.azure.com//.default`, whose resource ends in a slash.
AUDIENCES = ("https://communication.azure.com", "https://communication.azure.com/")
_SIGNATURE = re.compile(
    r"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=([A-Za-z0-9+/]{43}=)"
)


def hash_content(body: bytes) -> str:
    """Return the value of `x-ms-content-sha256`."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")


def sign(key: bytes, *, verb: str, target: str, date: str, host: str, content_hash: str) -> str:
    """Return the signature of a request; `target` is path and query exactly as sent."""
    text = f"{verb}\n{target}\n{date};{host};{content_hash}"
    return base64.b64encode(hmac.digest(key, text.encode("utf-8"), hashlib.sha256)).decode("ascii")


class Callers:
    """Decides whether a caller may use the resource."""

    def __init__(self, access_keys: tuple[str, ...], entra_keys: KeyRing, trusted: Mapping[str, str]) -> None:
        """Trust holders of a base64 key in `access_keys`, and Entra ID's tokens with the claims `trusted`."""
        self.access_keys = access_keys
        self._entra_keys = entra_keys
        self._trusted = trusted

    def check(self, verb: str, target: str, headers: Headers, body: bytes) -> None:
        """Return if the caller is trusted. Raises CommunicationError 401 `Denied` otherwise."""
        authorization = headers.get("Authorization", "")
        if authorization.startswith("Bearer "):
            trusted = self._check_bearer(authorization.removeprefix("Bearer "))
        else:
            trusted = self._check_signature(authorization, verb, target, headers, body)
        if not trusted:
            raise refuse_caller()

    def _check_bearer(self, token: str) -> bool:
        try:
            claims = self._entra_keys.read(token, audiences=AUDIENCES)
        except ValueError:
            return False
        return self._trusted.items() <= claims.items()

    def _check_signature(
        self, authorization: str, verb: str, target: str, headers: Headers, body: bytes
    ) -> bool:
        match = _SIGNATURE.fullmatch(authorization)
        date = headers.get("x-ms-date", "")
        content_hash = headers.get("x-ms-content-sha256", "")
        if match is None or not _is_recent(date) or content_hash != hash_content(body):
            return False
        host = headers.get("Host", "")
        wanted = (
            sign(
                base64.b64decode(key),
                verb=verb,
                target=target,
                date=date,
                host=host,
                content_hash=content_hash,
            )
            for key in self.access_keys
        )
        return any(hmac.compare_digest(signature, match[1]) for signature in wanted)


def _is_recent(date: str) -> bool:
    try:
        return abs(parsedate_to_datetime(date).timestamp() - time.time()) <= SKEW_SECONDS
    except ValueError:
        return False
