"""What Entra ID publishes about itself: its endpoints, its issuer, and the keys it signs with."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from trusted_service.entra.http import SERVICE, EntraHttp
from trusted_service.entra.last_good import LastGood
from trusted_service.errors import UpstreamError, UpstreamUnavailable

RENEWALS, RENEWAL_SECONDS = 3, 900
"""How often, in how long, tokens with unknown key ids may make us fetch keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """The parts of the discovery document that we use, and its text as it came.

    https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
    """

    issuer: str
    jwks_uri: str
    token_endpoint: str
    end_session_endpoint: str
    text: str

    def issuer_of(self, tenant_id: str) -> str:
        """The `iss` of a token of this tenant; multi-tenant authorities publish it as a template."""
        return self.issuer.replace("{tenantid}", tenant_id)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the issuer that Entra ID says may use it (a template, as in Endpoints), if any."""

    key: Any
    issuer: str | None


class Metadata:
    """Endpoints and keys of one authority, fetched when first needed and kept through an outage."""

    def __init__(self, authority: str, http: EntraHttp) -> None:
        self._authority = authority
        self.discovery_url = f"{authority}/v2.0/.well-known/openid-configuration"
        self._http = http
        self._endpoints = LastGood(self._fetch_endpoints)
        self._keys = LastGood(self._fetch_keys)
        self._lock = threading.Lock()
        self._renewals: deque[float] = deque()

    def endpoints(self) -> Endpoints:
        """Raises UpstreamError where Entra ID does not answer and nothing good is kept."""
        return self._endpoints.get()

    def find_endpoints(self) -> Endpoints | None:
        """The same for who can do without: None, within a second, where Entra ID does not answer."""
        return self._endpoints.find()

    def renew(self) -> None:
        """Ask again. Raises UpstreamError where Entra ID does not answer; what is kept stays good."""
        self._endpoints.renew()

    def keys(self) -> Mapping[str, SigningKey]:
        """The keys by id, the same object until they are fetched anew. Raises as `endpoints` does."""
        return self._keys.get()

    def kept_keys(self) -> Mapping[str, SigningKey] | None:
        """The same without fetching any; None where there are none yet."""
        return self._keys.kept

    def find_key(self, key_id: str) -> SigningKey | None:
        """The key of this id, or None if Entra ID does not publish one, also just now.

        For tokens that came from Entra ID itself; a stranger must not be able to make us fetch
        keys at will. Raises UpstreamError as `endpoints` does.
        """
        known = self._keys.get().get(key_id)
        return known or self._keys.renew().get(key_id)

    def find_key_sparingly(self, key_id: str) -> SigningKey | None:
        """As `find_key`, for tokens that anybody may have made up: unknown ids fetch keys only now and then.

        Entra ID publishes a key long before it signs with it, so that the hourly renewal has it.
        """
        known = self._keys.get().get(key_id)
        if known is None and self._may_renew():
            try:
                return self._keys.renew().get(key_id)
            except UpstreamError:
                return None  # the keys that we have are good, and this is not one of them
        return known

    def _may_renew(self) -> bool:
        now = time.monotonic()
        with self._lock:
            while self._renewals and now - self._renewals[0] > RENEWAL_SECONDS:
                self._renewals.popleft()
            if len(self._renewals) >= RENEWALS:
                return False
            self._renewals.append(now)
            return True

    def _fetch_endpoints(self) -> Endpoints:
        answer = self._http.get(self.discovery_url)
        document = answer.json()
        # Not all publish where to sign out (it is optional); Entra ID's place is the default.
        document.setdefault("end_session_endpoint", f"{self._authority}/oauth2/v2.0/logout")
        names = ("issuer", "jwks_uri", "token_endpoint", "end_session_endpoint")
        values = {name: document.get(name) for name in names}
        if not all(isinstance(value, str) and value for value in values.values()):
            raise UpstreamUnavailable(SERVICE, "discovery document without its endpoints")
        return Endpoints(text=answer.text, **values)

    def _fetch_keys(self) -> dict[str, SigningKey]:
        keys = {}
        published = self._http.get(self.endpoints().jwks_uri).json().get("keys")
        for entry in published if isinstance(published, list) else []:
            try:
                keys[str(entry["kid"])] = SigningKey(jwt.PyJWK(entry, "RS256"), entry.get("issuer"))
            except (jwt.PyJWTError, KeyError, TypeError, AttributeError):
                continue  # a key of a kind that we do not accept
        if not keys:
            raise UpstreamUnavailable(SERVICE, "key set without a usable key")
        return keys
