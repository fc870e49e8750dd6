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
from azure.core.pipeline import PipelineResponse
from azure.identity import ManagedIdentityCredential

from trusted_service.azure import transport
from trusted_service.azure.errors import ManagedIdentityFailed, azure_call, network_reason

HARMLESS = re.compile(
    r"AADSTS[0-9]{1,8}\b|No User Assigned or Delegated Managed Identity|No MSI found|Identity not found",
    re.IGNORECASE,
)
"""What is logged of the endpoint's text, which may hold anything."""

_status: ContextVar[int] = ContextVar("status", default=0)


class ManagedIdentity(ManagedIdentityCredential):
    """Methods raise ManagedIdentityFailed. Without `client_id`, it is the identity of the system."""

    def __init__(self, client_id: str | None, session: requests.Session) -> None:
        options: dict[str, Any] = {"transport": transport.new_transport(session), "retry_total": 0}
        super().__init__(client_id=client_id, raw_response_hook=_record_status, **options)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        with _named_failures():
            token: AccessToken = super().get_token(*scopes, **options)
            return token

    def get_token_info(self, *scopes: str, **options: Any) -> AccessTokenInfo:
        with _named_failures():
            token: AccessTokenInfo = super().get_token_info(*scopes, **options)
            return token


def check_managed_identity(client_id: str | None, session: requests.Session) -> None:
    """Get a token that is not from a cache, which may have one for a day. Raises UpstreamUnavailable."""
    with azure_call("Entra ID"):
        ManagedIdentity(client_id, session).get_token("https://storage.azure.com/.default")


def _record_status(response: PipelineResponse[Any, Any]) -> None:
    _status.set(response.http_response.status_code)  # the SDK's exceptions have none


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
