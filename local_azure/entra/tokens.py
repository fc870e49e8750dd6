"""Issues ID tokens and access tokens with the claims of the v2.0 endpoint.

Claims: learn.microsoft.com/entra/identity-platform/id-token-claims-reference and
…/access-token-claims-reference.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from local_azure.encoding import decode_base64url, encode_base64url
from local_azure.entra.accounts import ADMIN_ROLE, CONTOSO, Account, name_issuer, name_version_1_issuer
from local_azure.entra.registration import (
    EXCHANGE_AUDIENCE,
    IDENTITY_CLIENT_ID,
    IDENTITY_PRINCIPAL_ID,
    SERVICE_PRINCIPAL_ID,
    WEB_CLIENT_ID,
)
from local_azure.entra.scopes import TEAMS_AUDIENCE, Scopes
from local_azure.entra.tampering import Forge, Tampering, TokenKind
from local_azure.signing import KeyRing

BEARER = "Bearer"
"""The type of every token here: https://www.rfc-editor.org/rfc/rfc6749.html#section-7.1"""

TOKEN_SECONDS = 3600
CLOCK_SKEW_SECONDS = 300
"""Entra ID dates `nbf` and `iat` five minutes back, for clients whose clock is slow."""

Claims = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """The properties of a token that a test can choose."""

    lifetime: int = TOKEN_SECONDS
    tampering: Tampering | None = None


USUAL = TokenSpec()


class Tokens:
    """Signs tokens with the current key, after tampering if a test asked for it."""

    def __init__(self, keys: KeyRing, forge: Forge, tls_origin: str) -> None:
        """Issue tokens for the issuers under `tls_origin`."""
        self._keys = keys
        self._forge = forge
        self._tls_origin = tls_origin

    def name_issuer(self, tenant: str) -> str:
        """Return the issuer of a tenant, or the template of the tenant-independent endpoints."""
        return name_issuer(self._tls_origin, tenant)

    def mint_id_token(
        self, account: Account, client_id: str, *, nonce: str | None, sid: str | None, spec: TokenSpec = USUAL
    ) -> str:
        """Return the ID token for the user who signed in."""
        claims = self._describe(account, client_id, sid, spec)
        claims["aud"] = client_id
        claims["login_hint"] = make_login_hint(account)
        if nonce is not None:
            claims["nonce"] = nonce
        return self._seal("id", claims, spec)

    def mint_access_token(
        self,
        account: Account,
        client_id: str,
        scopes: Scopes,
        *,
        sid: str | None,
        client_proof: str,
        spec: TokenSpec = USUAL,
    ) -> str:
        """Return the access token for the resource in `scopes`; Graph's is opaque to other parties.

        `client_proof` is how the client authenticated: 0 not at all, 1 by secret, 2 by certificate.
        """
        if scopes.resource == "graph":
            return f"opaque.{secrets.token_urlsafe(64)}"
        claims = self._describe(account, client_id, sid, spec)
        claims["scp"] = " ".join(scopes.names)
        if scopes.resource == "teams":
            claims |= {"azp": client_id, "azpacr": client_proof}
            claims = _as_version_1(claims) | {"aud": TEAMS_AUDIENCE}
        else:
            claims |= {"aud": WEB_CLIENT_ID, "azp": client_id, "azpacr": client_proof}
        return self._seal("access", claims, spec)

    def mint_app_token(self, client_proof: str, spec: TokenSpec = USUAL) -> str:
        """Return the app-only access token of the web app for its own API."""
        claims = self._start(CONTOSO, spec) | {
            "aud": WEB_CLIENT_ID,
            "azp": WEB_CLIENT_ID,
            "azpacr": client_proof,
            "idtyp": "app",
            "oid": SERVICE_PRINCIPAL_ID,
            "roles": [ADMIN_ROLE],
            "sub": SERVICE_PRINCIPAL_ID,
        }
        return self._seal("access", claims, spec)

    def mint_identity_token(self, resource: str, lifetime: int) -> tuple[str, int]:
        """Return a token of the managed identity for `resource`, and when it expires (epoch seconds)."""
        expires_on = int(time.time()) + lifetime
        claims = self._start(CONTOSO, USUAL) | {
            "aud": resource,
            "azp": IDENTITY_CLIENT_ID,
            "azpacr": "2",
            "exp": expires_on,
            "idtyp": "app",
            "oid": IDENTITY_PRINCIPAL_ID,
            "sub": IDENTITY_PRINCIPAL_ID,
        }
        if resource != EXCHANGE_AUDIENCE:
            claims = _as_version_1(claims)
        return self._keys.current.sign(claims), expires_on

    def _start(self, tenant_id: str, spec: TokenSpec) -> Claims:
        now = int(time.time())
        issued = now - CLOCK_SKEW_SECONDS
        return {
            "iss": self.name_issuer(tenant_id),
            "iat": issued,
            "nbf": issued,
            "exp": now + spec.lifetime,
            "aio": secrets.token_urlsafe(48),
            "rh": f"1.{secrets.token_urlsafe(32)}.",
            "tid": tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "2.0",
        }

    def _describe(self, account: Account, client_id: str, sid: str | None, spec: TokenSpec) -> Claims:
        claims = self._start(account.tenant_id, spec) | {
            "name": account.name,
            "oid": account.object_id,
            "preferred_username": account.username,
            "sub": _make_subject(account, client_id),
        }
        if account.roles:
            claims["roles"] = list(account.roles)
        if sid is not None:
            claims["sid"] = sid
        return claims

    def _seal(self, kind: TokenKind, claims: Claims, spec: TokenSpec) -> str:
        tampering = spec.tampering or self._forge.take(kind)
        return self._keys.current.sign(claims) if tampering is None else self._forge.make(claims, tampering)


def _as_version_1(claims: Claims) -> Claims:
    """Return the claims in the form of v1.0: the resource of a token determines its version.

    Azure's own resources use v1.0. That of the Teams scopes does too, hence the `appid` that the exchange is
    documented to read.
    """
    changed = claims | {"ver": "1.0", "iss": name_version_1_issuer(str(claims["tid"]))}
    changed["appid"], changed["appidacr"] = changed.pop("azp"), changed.pop("azpacr")
    if username := changed.pop("preferred_username", None):
        changed["unique_name"] = changed["upn"] = username
    changed.pop("roles", None)
    return changed


def make_client_info(account: Account) -> str:
    """Return `client_info`, by which MSAL distinguishes accounts."""
    return _encode_json({"uid": account.object_id, "utid": account.tenant_id})


def make_login_hint(account: Account) -> str:
    """Return the opaque `login_hint` claim, which `logout_hint` and `login_hint` accept."""
    # Bytes rather than JSON, as Entra ID's own: it must not look like a token.
    return "O." + encode_base64url(f"\n{account.username}".encode())


def read_login_hint(hint: str) -> str:
    """Return the user name in a `login_hint` claim, or any other text unchanged."""
    prefix, _, encoded = hint.partition(".")
    try:
        return decode_base64url(encoded).decode("utf-8").strip() if prefix == "O" else hint
    except ValueError:
        return hint


def _make_subject(account: Account, client_id: str) -> str:
    """Return `sub`: different for each app, constant for one user and app."""
    pair = f"{client_id}/{account.tenant_id}/{account.object_id}"
    return encode_base64url(hashlib.sha256(pair.encode("ascii")).digest())


def _encode_json(members: Mapping[str, str]) -> str:
    return encode_base64url(json.dumps(members).encode("utf-8"))
