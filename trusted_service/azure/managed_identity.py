"""The managed identity, whose failures are named as such and not as those of the upstream that wants a token.

https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import requests
import structlog
from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline import PipelineResponse
from azure.identity import ManagedIdentityCredential

from trusted_service.azure import deadlines, transport
from trusted_service.azure.errors import azure_call, network_reason
from trusted_service.azure.shared_call import SharedCall
from trusted_service.errors import ManagedIdentityFailed

log = structlog.get_logger(__name__)

HARMLESS = re.compile(
    r"AADSTS[0-9]{1,8}\b|No User Assigned or Delegated Managed Identity|No MSI found|Identity not found",
    re.IGNORECASE,
)
"""What is logged of the endpoint's text, which may hold anything."""

RENEW_SECONDS, RETRY_SECONDS, MIN_SECONDS = 300, 10, 5
"""From the renewal of a token to its end, unless it says when; between attempts; left of one in use."""

_status: ContextVar[int] = ContextVar("status", default=0)


@dataclass
class CachedToken:
    """The last token for one scope, and the call for another, which all requests share."""

    call: SharedCall[AccessTokenInfo]
    token: AccessTokenInfo | None = None
    tried_at: float = float("-inf")
    options: TokenRequestOptions | None = None  # of calls, since a token was revoked


class ManagedIdentity(ManagedIdentityCredential):
    """Methods raise ManagedIdentityFailed. Without `client_id`, it is the identity of the system.

    A token is renewed in the background: azure-identity would let every request wait for a silent endpoint,
    from half of the token's life on, and gives up five minutes before its end.
    """

    def __init__(self, client_id: str | None, session: requests.Session) -> None:
        options: dict[str, Any] = {"transport": transport.new_transport(session), "retry_total": 0}
        super().__init__(client_id=client_id, raw_response_hook=_record_status, **options)
        self._cached: dict[str, CachedToken] = {}

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        token = self.get_token_info(*scopes)
        return AccessToken(token.token, token.expires_on)

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        (scope,) = scopes
        cached = self._ensure_cached(scope)
        if options and options.get("claims"):  # an upstream has refused the token
            cached.token, cached.options = None, options
        token, now = cached.token, time.time()
        if token is None or token.expires_on - now < MIN_SECONDS:
            try:
                return cached.call.start().wait()
            except deadlines.NotSent as error:
                raise ManagedIdentityFailed(str(error)) from error
        if now >= _renew_at(token) and time.monotonic() - cached.tried_at >= RETRY_SECONDS:
            cached.call.start()
        return token

    def _ensure_cached(self, scope: str) -> CachedToken:
        new = CachedToken(SharedCall(partial(self._fetch, scope), deadlines.CALL_SECONDS))
        return self._cached.setdefault(scope, new)

    def _fetch(self, scope: str) -> AccessTokenInfo:
        cached = self._ensure_cached(scope)
        if cached.token is not None and time.time() < _renew_at(cached.token):
            return cached.token  # another thread has just got it
        cached.tried_at = time.monotonic()
        try:
            with _named_failures(), deadlines.ending_at("Entra ID", cached.tried_at + deadlines.CALL_SECONDS):
                token: AccessTokenInfo = super().get_token_info(scope, options=cached.options)
                if _status.get() != 200:  # MSAL goes on with the token that it has
                    raise AzureError("the token is not new")
        except ManagedIdentityFailed as error:
            log.warning("refresh_failed", upstream="managed identity", reason=str(error))
            raise
        cached.token = token
        return token


def _renew_at(token: AccessTokenInfo) -> int:
    return token.refresh_on or token.expires_on - RENEW_SECONDS


def check_managed_identity(client_id: str | None, session: requests.Session) -> None:
    """Get a token that is not from a cache, which may have one for a day. Raises UpstreamUnavailable."""
    with azure_call("Entra ID"):
        ManagedIdentity(client_id, session).get_token("https://storage.azure.com/.default")


def _record_status(response: PipelineResponse[Any, Any]) -> None:
    _status.set(response.http_response.status_code)  # the SDK's exceptions have none
    # MSAL would obey it for up to an hour; without it, for five seconds.
    response.http_response.headers.pop("Retry-After", None)


@contextmanager
def _named_failures() -> Iterator[None]:
    _status.set(0)
    try:
        yield
    except (AzureError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ManagedIdentityFailed(_reason(error)) from error


def _reason(error: Exception) -> str:
    if status := _status.get():
        return " ".join([f"HTTP {status}", *HARMLESS.findall(str(error))[:1]])
    if not os.environ.get("IDENTITY_ENDPOINT"):
        return "no endpoint responds (IDENTITY_ENDPOINT is not set)"
    if isinstance(error, ClientAuthenticationError):
        return "refused, as a moment ago"  # MSAL repeats a refusal for seconds
    return f"the endpoint is not reachable: {network_reason(error)}"
