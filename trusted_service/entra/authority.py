"""One authority of Entra ID: calls to it, and what it publishes about itself."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import requests

from trusted_service.azure import deadlines
from trusted_service.azure.errors import network_reason
from trusted_service.entra.cache import Cache
from trusted_service.entra.refusals import read_refusal
from trusted_service.errors import UpstreamThrottled, UpstreamUnavailable

ENDPOINTS = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint")
"""https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata"""
LABEL, PORT = "[a-z0-9-]{1,63}", "([0-5]?[0-9]{1,4}|6[0-4][0-9]{3})"
URL = re.compile(rf"https?://{LABEL}(\.{LABEL})*(:{PORT})?/[!-~]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the only issuer that may use it if Entra ID names one, as `issuer_of` takes it."""

    id: str
    key: Any
    issuer: str | None


def issuer_of(tenant_id: str, template: str) -> str:
    """The issuer for this tenant; multi-tenant authorities publish theirs as a template."""
    return template.replace("{tenantid}", tenant_id)


class Authority:
    """Endpoints and keys are cached through an outage. Methods raise UpstreamError.

    MSAL uses it as its HTTP client: `get` and `post` return responses of the OAuth protocol, good and bad
    (400 and 401 with a JSON object).
    """

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self._session = session
        self._discovery_url = f"{url}/v2.0/.well-known/openid-configuration"
        self._default_sign_out = f"{url}/oauth2/v2.0/logout"
        self.discovery = Cache(self._fetch_discovery)
        self.keys = Cache(self._fetch_keys)

    def get(self, url: str, **options: Any) -> requests.Response:
        """MSAL gets the discovery document for each sign-in, so that one comes from the cache."""
        if url == self._discovery_url:
            return self.discovery.get()[1]
        return self._send("GET", url, **options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._send("POST", url, **options)

    def refresh(self) -> None:
        """Fetch the endpoints, for a background thread. If that fails, those in the cache stay good."""
        self.discovery.refresh(in_background=True)

    def issuer(self, tenant_id: str) -> str:
        return issuer_of(tenant_id, self.discovery.get()[0]["issuer"])

    def sign_out_url(self, return_to: str, login_hint: str | None) -> str:
        """https://openid.net/specs/openid-connect-rpinitiated-1_0.html"""
        parameters = {"post_logout_redirect_uri": return_to}
        if login_hint:
            parameters["logout_hint"] = login_hint
        return f"{self._sign_out_endpoint()}?{urlencode(parameters)}"

    def sign_out_origin(self) -> str:
        """The origin of `sign_out_url`, for a Content-Security-Policy."""
        url = urlsplit(self._sign_out_endpoint())
        return f"{url.scheme}://{url.netloc}"

    def is_current(self, key: SigningKey) -> bool:
        """Whether the key is one of those fetched last."""
        return self.keys.get().get(key.id) is key

    def find_key(self, key_id: str) -> SigningKey | None:
        """The key of this id, or None. Few unknown ids lead to a fetch, since anybody can make them up.

        Raises UpstreamError while it cannot be told, because a fetch is under way or has failed.
        """
        return self.keys.get().get(key_id) or self.keys.refresh_in_doubt().get(key_id)

    def find_new_key(self, key_id: str) -> SigningKey | None:
        """The same for a token that comes from Entra ID itself, so its key is published by now."""
        key = self.keys.get().get(key_id) or self.keys.refresh().get(key_id)
        return key or self.keys.refresh().get(key_id)  # the first may have been under way before

    def _sign_out_endpoint(self) -> str:
        # Without a fetch, which could fail after the session here has ended.
        cached = self.discovery.value
        return self._default_sign_out if cached is None else cached[0]["end_session_endpoint"]

    def _fetch_discovery(self) -> tuple[dict[str, str], requests.Response]:
        """The endpoints by their names, and the response that held them, for MSAL."""
        response = self._send("GET", self._discovery_url)
        document = response.json()
        if response.status_code != 200:
            refusal = read_refusal(document)
            raise UpstreamUnavailable("Entra ID", f"discovery: {refusal}", details=refusal.details)
        document.setdefault("end_session_endpoint", self._default_sign_out)  # to publish one is optional
        endpoints = {name: str(document.get(name)) for name in ENDPOINTS}
        if not all(map(URL.fullmatch, endpoints.values())):
            raise UpstreamUnavailable("Entra ID", "discovery document without its endpoints")
        return endpoints, response

    def _fetch_keys(self) -> Mapping[str, SigningKey]:
        keys = {}
        published = (
            self._send("GET", self.discovery.get(in_background=True)[0]["jwks_uri"]).json().get("keys")
        )
        for entry in published if isinstance(published, list) else []:
            try:
                key = SigningKey(str(entry["kid"]), jwt.PyJWK(entry, "RS256"), entry.get("issuer"))
            except (jwt.PyJWTError, LookupError, TypeError, ValueError, AttributeError):
                continue  # a key of a kind that we do not accept
            if isinstance(key.issuer, str | None):
                keys[key.id] = key
        if not keys:
            raise UpstreamUnavailable("Entra ID", "key set without a usable key")
        return keys

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        try:
            with deadlines.call("Entra ID"):
                response = self._session.request(method, url, allow_redirects=False, **options)
        except deadlines.NotSent as error:
            raise UpstreamUnavailable("Entra ID", str(error)) from error
        except requests.RequestException as error:
            raise UpstreamUnavailable("Entra ID", network_reason(error), outcome_unknown=True) from error
        retry_after, document = response.headers.get("Retry-After"), None
        with suppress(ValueError, RecursionError):
            document = response.json()
        if response.status_code in (200, 400, 401) and isinstance(document, dict):
            return response
        details = read_refusal(document).details if isinstance(document, dict) else {}
        if response.status_code == 429:
            raise UpstreamThrottled("Entra ID", "HTTP 429", retry_after, details=details)
        reason = f"unexpected response: HTTP {response.status_code}"
        raise UpstreamUnavailable("Entra ID", reason, retry_after, details=details)
