"""Signing a person in: the authorization code flow with PKCE, by MSAL.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import msal
import requests

from trusted_service.entra import claims
from trusted_service.entra.http import SERVICE, EntraHttp
from trusted_service.entra.metadata import Metadata
from trusted_service.errors import SignInFailed, TenantNotAllowed, UpstreamUnavailable
from trusted_service.models import User

# A form_post callback is a cross-site POST, which a SameSite=Lax cookie does not accompany. With PKCE
# and a one-time code the query is sound.
warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended")

Flow = dict[str, Any]
"""What has to be kept between the two halves of a sign-in; it fits in a cookie."""

LONGEST_TEXT = 1024
"""Of a `sid` or `login_hint`: opaque to us, and no longer than this."""

SIGN_IN_ERRORS = (
    "invalid_grant",
    "access_denied",
    "consent_required",
    "interaction_required",
    "login_required",
)
"""Errors of the token endpoint that this one sign-in has brought on; any other is Entra ID's or ours.

https://www.rfc-editor.org/rfc/rfc6749.html#section-5.2
https://openid.net/specs/openid-connect-core-1_0.html#AuthError
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedIn:
    """A person who has just proved who they are. `session_id`: Entra ID's `sid`, for front-channel logout.

    `access_token` is good for whatever scopes were asked for, and empty where Entra ID gave none.
    """

    user: User
    session_id: str | None
    login_hint: str | None
    access_token: str = field(repr=False)


class EntraSignIn:
    """Safe to share between threads. Methods raise UpstreamError where Entra ID does not do its part."""

    def __init__(
        self,
        *,
        authority: str,
        client_id: str,
        credential: str | dict[str, Any],
        allowed_tenants: Sequence[str],
        metadata: Metadata,
        http: EntraHttp,
    ) -> None:
        self._authority = authority
        self._client_id = client_id
        self._credential = credential
        self._allowed_tenants = allowed_tenants
        self._metadata = metadata
        self._http = http

    def start(
        self, redirect_uri: str, *, scopes: Sequence[str] = (), login_hint: str | None = None
    ) -> tuple[str, Flow]:
        """Return the address to send the browser to, and what `complete` needs when it comes back.

        `scopes` are those of another API; Entra ID asks the person for those they have not granted yet.
        """
        flow = self._application().initiate_auth_code_flow(
            list(scopes), redirect_uri=redirect_uri, login_hint=login_hint
        )
        return flow.pop("auth_uri"), flow

    def complete(self, flow: Flow, code: str) -> SignedIn:
        """Redeem the code. Raises SignInFailed, or TenantNotAllowed for a genuine user from elsewhere.

        `access_token` is for the API whose scopes `start` was given.
        """
        try:
            answer = self._application().acquire_token_by_auth_code_flow(
                flow, {"state": flow.get("state"), "code": code}
            )
        except RuntimeError:
            # MSAL's message holds the whole ID token, so it goes nowhere.
            raise SignInFailed("id-token-nonce") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise SignInFailed("id-token-malformed") from None
        if "error" in answer:
            raise _failure(answer)
        return self._signed_in(answer.get("id_token"), _access_token(answer))

    def sign_out_url(self, return_to: str, login_hint: str | None) -> str:
        """https://openid.net/specs/openid-connect-rpinitiated-1_0.html"""
        parameters = {"post_logout_redirect_uri": return_to}
        if login_hint:
            parameters["logout_hint"] = login_hint
        return f"{self._metadata.endpoints().end_session_endpoint}?{urlencode(parameters)}"

    def sign_out_origin(self) -> str:
        """Where `sign_out_url` leads, for a Content-Security-Policy; the authority if Entra ID is silent."""
        endpoints = self._metadata.find_endpoints()
        url = urlsplit(self._authority if endpoints is None else endpoints.end_session_endpoint)
        return f"{url.scheme}://{url.netloc}"

    def check(self) -> None:
        """Raises UpstreamError unless Entra ID answers now."""
        self._metadata.renew()

    def _application(self) -> msal.ConfidentialClientApplication:
        # One for each use: an application shared between people replays one's refusal to the others.
        try:
            return msal.ConfidentialClientApplication(
                self._client_id,
                client_credential=self._credential,
                authority=self._authority,
                instance_discovery=False,
                exclude_scopes=["offline_access"],
                http_client=_MsalHttp(self._http, self._metadata),
            )
        except ValueError as error:
            raise UpstreamUnavailable(SERVICE, "MSAL cannot use the authority or our credential") from error

    def _signed_in(self, id_token: object, access_token: str) -> SignedIn:
        if not isinstance(id_token, str):
            raise UpstreamUnavailable(SERVICE, "token endpoint: no ID token")
        try:
            verified = claims.verify(
                id_token,
                audience=self._client_id,
                endpoints=self._metadata.endpoints(),
                find_key=self._metadata.find_key,
            )
            user = claims.user_of(verified)
        except claims.TokenInvalid as error:
            raise SignInFailed(f"id-token-{error.reason}") from error
        if user.id.tenant_id not in self._allowed_tenants:
            raise TenantNotAllowed
        return SignedIn(
            user=user,
            session_id=_text(verified.get("sid")),
            login_hint=_text(verified.get("login_hint")),
            access_token=access_token,
        )


@dataclass(frozen=True, slots=True)
class _Document:
    """The discovery document in the form in which MSAL reads an answer."""

    text: str
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class _MsalHttp:
    """MSAL's way to Entra ID: it asks for the discovery document each time, which we have."""

    def __init__(self, http: EntraHttp, metadata: Metadata) -> None:
        self._http = http
        self._metadata = metadata

    def get(self, url: str, **options: Any) -> _Document | requests.Response:
        if url == self._metadata.discovery_url:
            return _Document(self._metadata.endpoints().text)
        return self._http.get(url, **options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._http.post(url, **options)

    def close(self) -> None:
        """Part of MSAL's interface; there is nothing to close."""


def _failure(answer: Mapping[str, object]) -> SignInFailed | UpstreamUnavailable:
    error = str(answer.get("error"))[:64]
    if error in SIGN_IN_ERRORS:
        return SignInFailed(f"token-endpoint-{error}")
    return UpstreamUnavailable(SERVICE, f"token endpoint: {error}")


def _access_token(answer: Mapping[str, object]) -> str:
    token = answer.get("access_token")
    return token if isinstance(token, str) else ""


def _text(value: object) -> str | None:
    usable = (
        isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value.isascii() and value.isprintable()
    )
    return str(value) if usable else None
