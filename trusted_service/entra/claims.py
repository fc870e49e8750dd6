"""Whether a token is one that Entra ID made, for this app, about a user, and still good.

MSAL checks nothing in an ID token but its nonce, so all of it is checked here.
https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens
https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import jwt

from trusted_service.entra.metadata import Endpoints, SigningKey
from trusted_service.errors import TrustedServiceError
from trusted_service.models import User, UserId, display_text, parse_guid

CLOCK_SKEW_SECONDS = 60
MOST_ROLES, LONGEST_ROLE = 100, 120

Claims = dict[str, Any]


class TokenInvalid(TrustedServiceError):
    """`reason` is one word for the log: what about the token is wrong. It never holds the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def verify(
    token: str, *, audience: str, endpoints: Endpoints, find_key: Callable[[str], SigningKey | None]
) -> Claims:
    """Return the claims of a genuine v2.0 token for `audience`; raises TokenInvalid, and as `find_key`."""
    claims, key = decode(token, audiences=(audience,), find_key=find_key)
    check_issuer(claims, key, endpoints)
    return claims


def decode(
    token: str, *, audiences: Sequence[str], find_key: Callable[[str], SigningKey | None]
) -> tuple[Claims, SigningKey]:
    """Return what a published key signed for one of `audiences`, good now, and that key.

    Raises TokenInvalid, and as `find_key`. Whose it is, and from which issuer, is not looked at.
    """
    key = _signing_key(token, find_key)
    try:
        claims: Claims = jwt.decode(
            token,
            key.key,
            algorithms=["RS256"],
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud"], "verify_aud": False, "verify_sub": False},
        )
    except jwt.PyJWTError as error:
        raise TokenInvalid(_REASONS.get(type(error), type(error).__name__)) from error
    check_times(claims)
    if claims["aud"] not in audiences:  # a list of audiences is not one of them either
        raise TokenInvalid("audience")
    return claims, key


def check_times(claims: Claims) -> None:
    """Raises TokenInvalid unless the token is good now; `decode` has seen that these are numbers."""
    now = time.time()
    if int(claims["exp"]) <= now:
        raise TokenInvalid("expired")  # the leeway is meant for clocks that are behind ours
    if int(claims.get("nbf", 0)) > now + CLOCK_SKEW_SECONDS:
        raise TokenInvalid("not-yet-valid")


def check_issuer(claims: Claims, key: SigningKey, endpoints: Endpoints) -> None:
    """Raises TokenInvalid unless it is a v2.0 token of its tenant's issuer, by a key for that issuer."""
    if claims.get("ver") != "2.0":
        raise TokenInvalid("version")
    tenant_id = tenant_of(claims)
    issuer = claims["iss"]
    if issuer != endpoints.issuer_of(tenant_id):
        raise TokenInvalid("issuer")
    if key.issuer is not None and issuer != key.issuer.replace("{tenantid}", tenant_id):
        raise TokenInvalid("key-issuer")


def tenant_of(claims: Claims) -> str:
    """The tenant, which the issuer must name too. Raises TokenInvalid.

    Where the authority is one tenant, its issuer names that one whatever `tid` says.
    """
    tenant_id = _guid(claims, "tid")
    if tenant_id not in str(claims["iss"]).split("/"):
        raise TokenInvalid("issuer")
    return tenant_id


def user_of(claims: Claims) -> User:
    """The user that verified claims speak about. Raises TokenInvalid where the ids are not GUIDs."""
    roles = claims.get("roles")
    return User(
        id=UserId(_guid(claims, "tid"), _guid(claims, "oid")),
        name=display_text(claims.get("name")),
        username=display_text(claims.get("preferred_username")),
        roles=tuple(map(str, roles[:MOST_ROLES])) if _are_roles(roles) else (),
    )


def _are_roles(roles: object) -> TypeGuard[list[str]]:
    """Values of app roles are short; a claim that would not fit into a row is not a list of them."""
    return isinstance(roles, list) and all(
        isinstance(role, str) and len(role) <= LONGEST_ROLE for role in roles
    )


def _signing_key(token: str, find_key: Callable[[str], SigningKey | None]) -> SigningKey:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, UnicodeError) as error:
        raise TokenInvalid("malformed") from error
    if header.get("alg") != "RS256":
        raise TokenInvalid("algorithm")
    key_id = header.get("kid")
    key = find_key(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise TokenInvalid("unknown-key")
    return key


def _guid(claims: Claims, name: str) -> str:
    try:
        return parse_guid(claims.get(name))
    except ValueError as error:
        raise TokenInvalid(name) from error


_REASONS = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not-yet-valid",
    jwt.InvalidSignatureError: "signature",
    jwt.MissingRequiredClaimError: "claim-missing",
    jwt.DecodeError: "malformed",
}
