"""How this app proves to Entra ID that it is the registered one, in the form MSAL takes."""

from pathlib import Path
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import ClientAuthenticationError

from trusted_service.azure_errors import azure_call
from trusted_service.config import EntraSettings
from trusted_service.entra.http import SERVICE
from trusted_service.errors import UpstreamUnavailable

FEDERATION_SCOPE = "api://AzureADTokenExchange/.default"
"""https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity"""


def client_credential(
    settings: EntraSettings, managed_identity: TokenCredential | None
) -> str | dict[str, Any]:
    """Raises OSError or UnicodeDecodeError where the certificate's file cannot be read."""
    if settings.client_secret is not None:
        return settings.client_secret
    if settings.client_certificate_path is not None:
        pem = Path(settings.client_certificate_path).read_text(encoding="ascii")
        return {"private_key": pem, "public_certificate": pem}
    return {"client_assertion": lambda: _assertion(managed_identity)}


def _assertion(managed_identity: TokenCredential | None) -> str:
    if managed_identity is None:
        raise UpstreamUnavailable(SERVICE, "no managed identity to prove who we are")
    try:
        # azure-identity keeps the token until shortly before its end.
        with azure_call(SERVICE, expected=(ClientAuthenticationError,)):
            return managed_identity.get_token(FEDERATION_SCOPE).token
    except ClientAuthenticationError as error:
        raise UpstreamUnavailable(SERVICE, "the managed identity gives no assertion") from error
