"""The managed identity, whose failures are named as such and not as those of the upstream that wants a token.

https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import requests
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ManagedIdentityCredential

from trusted_service.azure import transport
from trusted_service.azure.errors import ManagedIdentityFailed, network_reason

NOT_ASSIGNED = re.compile(
    "No User Assigned|No MSI found|No identity has been|Identity not found", re.IGNORECASE
)

_status: ContextVar[int] = ContextVar("status", default=0)


class _Transport(RequestsTransport):  # type: ignore[misc] # the SDK's lazy import hides its type
    def send(self, request: Any, **options: Any) -> Any:
        response = super().send(request, **options)
        _status.set(response.status_code)
        return response


class ManagedIdentity(ManagedIdentityCredential):
    """Methods raise ManagedIdentityFailed. Without `client_id`, it is the identity of the system."""

    def __init__(self, client_id: str | None, session: requests.Session) -> None:
        options = {"transport": transport.new_transport(session, _Transport), "retry_total": 0}
        super().__init__(client_id=client_id, **options)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        with _named_failures():
            token: AccessToken = super().get_token(*scopes, **options)
            return token

    def get_token_info(self, *scopes: str, **options: Any) -> AccessTokenInfo:
        with _named_failures():
            token: AccessTokenInfo = super().get_token_info(*scopes, **options)
            return token


@contextmanager
def _named_failures() -> Iterator[None]:
    _status.set(0)
    try:
        yield
    except (AzureError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ManagedIdentityFailed(_reason(error)) from error


def _reason(error: Exception) -> str:
    """What the endpoint says, by its status and known phrases, as its text may hold anything."""
    status, number = _status.get(), re.search(r"AADSTS[0-9]{1,8}\b", str(error))
    if status and NOT_ASSIGNED.search(str(error)):
        return f"HTTP {status}, no such identity is assigned to this app"
    if status:
        return f"the endpoint responds with HTTP {status}{f' {number[0]}' if number else ''}"
    if not os.environ.get("IDENTITY_ENDPOINT"):
        return "no endpoint responds (IDENTITY_ENDPOINT is not set)"
    if isinstance(error, ClientAuthenticationError):
        return "refused, as a moment ago"  # MSAL repeats a refusal for seconds
    return f"the endpoint is not reachable: {network_reason(error)}"
