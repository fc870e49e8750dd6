"""Hand-written sign-in requests, for tests of requests that MSAL would not send."""

import base64
import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import requests

from tests.support.local_azure import CALL_SECONDS, LocalAzure

ALICE = "alice@contoso.example"
BOB = "bob@contoso.example"
ADMIN = "admin@contoso.example"
GUEST = "guest@fabrikam.example"
CALLBACK = "http://localhost:8000/auth/callback"
VERIFIER = "a-code-verifier-that-is-at-least-forty-three-characters-long"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()

Claims = dict[str, object]


@dataclass(frozen=True)
class EntraFlow:
    """The web app's side of the authorization code flow; a parameter given as None is left out."""

    azure: LocalAzure
    browser: requests.Session
    tenant: str = "organizations"

    @property
    def token_url(self) -> str:
        return f"{self.azure.get_app().tls_origin}/{self.tenant}/oauth2/v2.0/token"

    def make_authorize_url(self, **changes: str | None) -> str:
        app = self.azure.get_app()
        parameters: dict[str, str | None] = {
            "client_id": app.client_id,
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": "openid profile",
            "state": "the-state",
            "nonce": "the-nonce",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        query = urlencode(
            {name: value for name, value in {**parameters, **changes}.items() if value is not None}
        )
        return f"{app.page_origin}/{self.tenant}/oauth2/v2.0/authorize?{query}"

    def open_page(self, **changes: str | None) -> requests.Response:
        """Return the response to an authorization request, without following redirects."""
        url = self.make_authorize_url(**changes)
        return self.browser.get(url, allow_redirects=False, timeout=CALL_SECONDS)

    def pick(self, account: str = ALICE, **changes: str | None) -> dict[str, str]:
        """Pick an account; return the query that the app receives."""
        return read_query(self.azure.sign_in(self.browser, self.make_authorize_url(**changes), account))

    def redeem(self, code: str | None, **changes: str | None) -> requests.Response:
        parameters: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        return self.post_token(**{**parameters, **changes})

    def post_token(self, **changes: str | None) -> requests.Response:
        """Return the token endpoint's response; sends the web app's secret unless `changes` say otherwise."""
        app = self.azure.get_app()
        parameters: dict[str, str | None] = {"client_id": app.client_id, "client_secret": app.client_secret}
        return self.browser.post(self.token_url, data={**parameters, **changes}, timeout=CALL_SECONDS)

    def sign_in(self, account: str = ALICE, **changes: str | None) -> dict[str, str]:
        """Sign an account in and return the token response."""
        response = self.redeem(self.pick(account, **changes)["code"])
        response.raise_for_status()
        body: dict[str, str] = response.json()
        return body

    def verify(self, token: str, audience: str | None = None) -> Claims:
        """Return the claims of a token that a published key signed."""
        app = self.azure.get_app()
        keys = self.browser.get(f"{app.tls_origin}/common/discovery/v2.0/keys", timeout=CALL_SECONDS).json()
        kid = jwt.get_unverified_header(token)["kid"]
        key = jwt.PyJWKSet.from_dict(keys)[kid]
        claims: Claims = jwt.decode(token, key, algorithms=["RS256"], audience=audience or app.client_id)
        return claims


def read_query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def read_error(response: requests.Response) -> tuple[int, str, int]:
    """Return status, OAuth error and AADSTS number of a refusal by the token endpoint."""
    body = response.json()
    return response.status_code, body["error"], body["error_codes"][0]
