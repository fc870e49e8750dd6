"""Reads and checks an authorization request.

Until client and redirect URI are known to belong together, an error is shown as a page, never as a redirect
(RFC 6749, section 4.1.2.1); afterwards it is sent to the app.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from local_azure.entra.errors import EntraError, PageError
from local_azure.entra.registration import Registration, WebRegistration
from local_azure.entra.scopes import Scopes
from local_azure.entra.service import EntraId
from local_azure.entra.tokens import read_login_hint

RESPONSE_MODES = ("query", "fragment", "form_post")
CHALLENGE_METHODS = ("plain", "S256")
PROMPTS = ("", "none", "login", "select_account", "consent")


@dataclass(frozen=True, kw_only=True)
class AuthorizationRequest:
    """A request with a valid client and redirect URI."""

    tenant: str
    app: Registration
    redirect_uri: str
    response_mode: str
    scopes: Scopes
    prompt: str = ""
    login_hint: str = ""
    state: str | None = None
    nonce: str | None = None
    challenge: str | None = None
    challenge_method: str = "plain"

    def build_redirect(self, response: Mapping[str, str]) -> str:
        """Return the redirect URI with the response in its query or fragment."""
        if self.response_mode == "fragment":
            return f"{self.redirect_uri}#{urlencode(response)}"
        separator = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{separator}{urlencode(response)}"


class RedirectedError(Exception):
    """An error sent to the app's redirect URI, with `extra` parameters."""

    def __init__(
        self, auth_request: AuthorizationRequest, error: EntraError, extra: Mapping[str, str] | None = None
    ) -> None:
        """Respond to `auth_request` with `error`."""
        super().__init__(str(error))
        self.auth_request = auth_request
        self.error = error
        self.extra = dict(extra or {})


def read_authorization(entra: EntraId, tenant: str, parameters: Mapping[str, str]) -> AuthorizationRequest:
    """Return the request in `parameters`. Raises PageError or RedirectedError."""
    app = _read_app(entra, parameters)
    redirect_uri = parameters.get("redirect_uri", "")
    if not app.allows_redirect(redirect_uri):
        raise PageError(
            50011,
            f"The redirect URI '{redirect_uri}' specified in the request does not match the redirect URIs"
            f" configured for the application '{app.client_id}'.",
        )
    mode = parameters.get("response_mode", "query")
    bare = AuthorizationRequest(
        tenant=tenant,
        app=app,
        redirect_uri=redirect_uri,
        response_mode=mode if mode in RESPONSE_MODES else "query",
        scopes=Scopes.parse(""),
        state=parameters.get("state"),
    )
    try:
        return _complete(bare, parameters, mode)
    except EntraError as error:
        raise RedirectedError(bare, error) from error


def _read_app(entra: EntraId, parameters: Mapping[str, str]) -> Registration:
    client_id = parameters.get("client_id", "")
    if not client_id:
        raise PageError(900144, "The request body must contain the following parameter: 'client_id'.")
    app = entra.registrations.find(client_id)
    if app is None:
        raise PageError(
            700016, f"Application with identifier '{client_id}' was not found in the directory 'Contoso'."
        )
    return app


def _complete(bare: AuthorizationRequest, parameters: Mapping[str, str], mode: str) -> AuthorizationRequest:
    response_type = parameters.get("response_type", "")
    if response_type != "code":
        code, error = (
            (900144, "invalid_request") if not response_type else (700054, "unsupported_response_type")
        )
        raise EntraError(error, code, f"response_type '{response_type}' is not enabled for the application.")
    if mode not in RESPONSE_MODES:
        raise EntraError(
            "invalid_request", 900144, f"The value of 'response_mode' is not supported: '{mode}'."
        )
    scopes = Scopes.parse(parameters.get("scope", ""))
    if not scopes.text:
        raise EntraError(
            "invalid_request", 900144, "The request body must contain the following parameter: 'scope'."
        )
    prompt = parameters.get("prompt", "")
    if prompt not in PROMPTS:
        raise EntraError("invalid_request", 90023, f"Unsupported 'prompt' value '{prompt}'.")
    challenge = parameters.get("code_challenge") or None
    method = parameters.get("code_challenge_method", "plain")
    if method not in CHALLENGE_METHODS:
        raise EntraError(
            "invalid_request", 501491, f"The size or method of the code_challenge is not valid: '{method}'."
        )
    if challenge is None and not isinstance(bare.app, WebRegistration):
        raise EntraError(
            "invalid_request",
            9002325,
            "Proof Key for Code Exchange is required for cross-origin authorization code redemption.",
        )
    return replace(
        bare,
        scopes=scopes,
        prompt=prompt,
        login_hint=read_login_hint(parameters.get("login_hint", "")),
        nonce=parameters.get("nonce"),
        challenge=challenge,
        challenge_method=method,
    )
