"""Signing a user in: the authorization code flow with PKCE, by MSAL.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msal
from azure.core.credentials import TokenCredential

from trusted_service.azure.errors import azure_call
from trusted_service.entra.authority import Authority
from trusted_service.entra.refusals import Refusal, read_refusal
from trusted_service.entra.tokens import EntraTokens, issued_at
from trusted_service.errors import AppRefused, SignInFailed, UpstreamUnavailable
from trusted_service.models import User
from trusted_service.settings import Settings

# A form_post callback is a cross-site POST, which a SameSite=Lax cookie does not accompany. With PKCE
# and a one-time code the query is sound.
warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended")

Flow = dict[str, Any]
"""What has to be kept between the two halves of a sign-in; it fits in a cookie."""

MAX_TEXT_LENGTH = 1024
"""Of a `sid` or `login_hint`, which are opaque to us."""
FEDERATION = "api://AzureADTokenExchange"
FEDERATION_ELSEWHERE = {
    "microsoftonline.us": "USGov", "ciamlogin.us": "USGov",
    "microsoftonline.cn": "China", "chinacloudapi.cn": "China", "ciamlogin.cn": "China",
}  # fmt: skip
"""The audience of a federated assertion, and what is added to it in other clouds, by domain.
https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
"""
UNKNOWN_CLIENT = "700016"
NOT_ASSIGNED_ITSELF = "501051"
"""The app has proved who it is, but is not assigned to itself, as one that requires assignment seldom is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedIn:
    """A user who has just signed in. `session_id`: Entra ID's `sid`. `access_token`: empty without one."""

    user: User
    issued_at: datetime
    session_id: str | None
    login_hint: str | None
    access_token: str = field(repr=False)


def client_credential(settings: Settings, managed_identity: TokenCredential | None) -> str | dict[str, Any]:
    """How this app proves who it is, in MSAL's form. Raises OSError for a bad file."""
    if settings.entra_client_secret is not None:
        return settings.entra_client_secret
    if settings.entra_client_certificate_path is not None:
        pem = Path(settings.entra_client_certificate_path).read_text(encoding="latin-1")
        return {"private_key": pem, "public_certificate": pem}
    domain = ".".join((urlsplit(settings.entra_authority).hostname or "").split(".")[-2:])
    scope = f"{FEDERATION}{FEDERATION_ELSEWHERE.get(domain, '')}/.default"

    def get_assertion() -> str:
        if managed_identity is None:
            raise UpstreamUnavailable("Entra ID", "no managed identity to prove who we are")
        with azure_call("Entra ID"):
            return managed_identity.get_token(scope).token

    return {"client_assertion": get_assertion}


@dataclass(frozen=True, slots=True)
class EntraSignIn:
    """Methods raise UpstreamError if Entra ID fails."""

    authority: Authority
    tokens: EntraTokens
    credential: str | dict[str, Any] = field(repr=False)

    def start(
        self, redirect_uri: str, *, scopes: Sequence[str] = (), **options: str | None
    ) -> tuple[str, Flow]:
        """Return the address for the browser, and what `complete` needs. `scopes` are of another API.

        `options` are MSAL's: `login_hint`, `prompt`.
        """
        flow = self._application().initiate_auth_code_flow(list(scopes), redirect_uri=redirect_uri, **options)
        return flow.pop("auth_uri"), flow

    def complete(self, flow: Flow, code: str) -> SignedIn:
        """Redeem the code. Raises SignInFailed, or TenantNotAllowed for a genuine user from elsewhere."""
        try:
            response = self._application().acquire_token_by_auth_code_flow(
                flow, {"state": flow.get("state"), "code": code}
            )
        except RuntimeError:
            # MSAL's message holds the whole ID token, so it goes nowhere.
            raise SignInFailed("id-token-nonce") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise SignInFailed("id-token-malformed") from None
        if "error" in response:
            refusal = read_refusal(response)
            # Else it is Entra ID's fault, or ours.
            if refusal.cause not in (None, "setup") or refusal.error == "invalid_grant":
                raise SignInFailed(f"token-endpoint-{refusal.error}", refusal.details, refusal.cause)
            raise _unavailable(refusal)
        id_token, access_token = response.get("id_token"), response.get("access_token")
        if not isinstance(id_token, str):
            raise UpstreamUnavailable("Entra ID", "token endpoint: no ID token")
        user, claims = self.tokens.read_id_token(id_token)
        return SignedIn(
            user=user,
            issued_at=issued_at(claims),
            session_id=_text(claims.get("sid")),
            login_hint=_text(claims.get("login_hint")),
            access_token=access_token if isinstance(access_token, str) else "",
        )

    def check(self) -> None:
        """Get a token for this app itself, which proves its credential. Raises UpstreamError."""
        base, _, tenant = self.authority.url.rpartition("/")
        refusals = []
        # An app's own token is one tenant's.
        for own in self.tokens.allowed_tenants if tenant == "organizations" else (tenant,):
            try:
                # A registration may ask for itself by its GUID alone (AADSTS90009), and always has that.
                response = self._application(f"{base}/{own}").acquire_token_for_client(
                    [f"{self.tokens.client_id}/.default"]
                )
            except (ValueError, LookupError, TypeError, AttributeError):
                raise UpstreamUnavailable("Entra ID", "token endpoint: malformed response") from None
            refusals.append(read_refusal(response))
            if "error" not in response or refusals[-1].number == NOT_ASSIGNED_ITSELF:
                return
        # A tenant that has not consented does not know the app: another says more.
        raise _unavailable(min(refusals, key=lambda refusal: refusal.number == UNKNOWN_CLIENT))

    def _application(self, authority: str = "") -> msal.ConfidentialClientApplication:
        # One for each use: an application shared between people replays one's refusal to the others.
        try:
            return msal.ConfidentialClientApplication(
                self.tokens.client_id,
                client_credential=self.credential,
                authority=authority or self.authority.url,
                instance_discovery=False,
                exclude_scopes=["offline_access"],
                http_client=self.authority,
            )
        except ValueError as error:
            raise UpstreamUnavailable("Entra ID", "MSAL cannot use authority or credential") from error


def _unavailable(refusal: Refusal) -> UpstreamUnavailable:
    kind = AppRefused if refusal.cause == "setup" else UpstreamUnavailable
    return kind("Entra ID", f"token endpoint: {refusal}", details=refusal.details)


def _text(value: object) -> str | None:
    text = value if isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH else ""
    return text if text.isascii() and text.isprintable() and text else None
