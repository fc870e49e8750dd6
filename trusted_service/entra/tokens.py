"""Validates tokens that Entra ID issued for this app or for Teams.

MSAL checks nothing in an ID token but its nonce, so all of it is checked here.
https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens
https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
https://learn.microsoft.com/rest/api/communication/identity/communication-identity/exchange-teams-user-access-token
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
from jwt.types import Options

from trusted_service import errors
from trusted_service.entra.authority import Authority, SigningKey, issuer_of
from trusted_service.models import User, UserId, parse_guid
from trusted_service.texts import display_text

CLOCK_SKEW_SECONDS = 60
MAX_VALIDATED = 10_000
ISSUER_V1 = "https://sts.windows.net/{tenantid}/"

TEAMS = "https://auth.msft.communication.azure.com"
TEAMS_SCOPE_NAMES = ("Teams.ManageCalls", "Teams.ManageChats")
TEAMS_SCOPES = tuple(f"{TEAMS}/{name}" for name in TEAMS_SCOPE_NAMES)
"""What a sign-in asks for to get a token for Teams."""
TEAMS_AUDIENCES = (TEAMS, f"{TEAMS}/", "1fd5118e-2576-4263-8130-9503064c837a")
"""A v1.0 token names the resource by its address, a v2.0 token by its application id."""

Claims = dict[str, Any]


class TokenRejected(errors.TrustedServiceError):
    """`reason` is one word for the log: what about the token is wrong. It never holds the token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bearer:
    """A genuine access token. Where it is app-only (`application`), `user` is the app's service principal."""

    user: User
    scopes: tuple[str, ...]
    application: bool
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class EntraTokens:
    """Methods raise UpstreamError if the keys cannot be fetched. No `allowed_clients` means any client."""

    authority: Authority
    client_id: str
    allowed_tenants: Sequence[str]
    allowed_clients: Sequence[str]
    roles: Sequence[str]  # others mean nothing here, and are not kept, however many a token has
    _validated: dict[bytes, tuple[Claims, SigningKey]] = field(default_factory=dict, init=False, repr=False)

    def read_id_token(self, token: str) -> tuple[User, Claims]:
        """Raises SignInFailed, or TenantNotAllowed for a genuine user from elsewhere."""
        try:
            claims, _ = self._decode(token, self._check_ours, self.authority.find_new_key)
            user = _user_of(claims, self.roles)
        except TokenRejected as error:
            raise errors.SignInFailed(f"id-token-{error.reason}") from error
        if user.id.tenant_id not in self.allowed_tenants:
            raise errors.TenantNotAllowed
        return user, claims

    def read_bearer(self, token: str) -> Bearer:
        """Read an access token that an app presents to our API. Raises InvalidToken or ClientNotAllowed."""
        try:
            claims = self._validate(token)
        except TokenRejected as error:
            raise errors.InvalidToken(error.reason) from error
        if self.allowed_clients and claims.get("azp") not in self.allowed_clients:
            raise errors.ClientNotAllowed
        application = _is_application(claims) and "scp" not in claims
        return Bearer(
            user=_user_of(claims, self.roles),
            scopes=_scopes_of(claims),
            application=application,
            issued_at=issued_at(claims),
        )

    def get_teams_client(self, token: str, user_id: UserId) -> str:
        """The client that this token for Teams was issued to. Raises InvalidTeamsToken or OtherUser."""
        try:
            claims, _ = self._decode(token, _check_teams, self.authority.find_key)
            if _user_of(claims).id != user_id:
                raise errors.OtherUser
            client_id = _guid_of(claims, "appid" if claims["ver"] == "1.0" else "azp")
        except TokenRejected as error:
            raise errors.InvalidTeamsToken(error.reason) from error
        if not set(TEAMS_SCOPE_NAMES) & set(_scopes_of(claims)):
            raise errors.InvalidTeamsToken("scope")
        if self.allowed_clients and client_id not in (self.client_id, *self.allowed_clients):
            raise errors.ClientNotAllowed
        return client_id

    def _validate(self, token: str) -> Claims:
        """Return the claims. A token that was good before, which clients send for an hour, costs little."""
        digest = hashlib.sha256(token.encode()).digest()
        claims, key = self._validated.get(digest, (None, None))
        if claims and key and self.authority.is_current(key):
            _check_times(claims)
            return claims
        claims, key = self._decode(token, self._check_bearer, self.authority.find_key)
        if len(self._validated) >= MAX_VALIDATED:
            self._validated.clear()
        self._validated[digest] = (claims, key)
        return claims

    def _decode(
        self, token: str, check: Callable[[Claims], None], find_key: Callable[[str], SigningKey | None]
    ) -> tuple[Claims, SigningKey]:
        """Return what a published key signed and `check` accepts, and that key. Raises TokenRejected.

        What can be judged without a key is judged first: junk and most forgeries cause no fetch.
        """
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != "RS256":
                raise TokenRejected("algorithm")
            unverified: Options = {**CLAIM_CHECKS, "verify_signature": False}
            check(jwt.decode(token, leeway=CLOCK_SKEW_SECONDS, options=unverified))
            key = find_key(header["kid"]) if "kid" in header else None
            if key is None:
                raise TokenRejected("unknown-key")
            claims: Claims = jwt.decode(
                token, key.key, algorithms=["RS256"], leeway=CLOCK_SKEW_SECONDS, options=CLAIM_CHECKS
            )
        except (jwt.PyJWTError, UnicodeError) as error:
            raise TokenRejected(REASONS.get(type(error), type(error).__name__)) from error
        check(claims)
        self._check_issuer(claims, key)
        return claims, key

    def _check_ours(self, claims: Claims) -> None:
        _check(claims, (self.client_id,), ("2.0",))

    def _check_bearer(self, claims: Claims) -> None:
        self._check_ours(claims)
        if _tenant_of(claims) not in self.allowed_tenants:
            raise TokenRejected("tenant")
        # An ID token of a registration that is web app and API at once has our audience too. It says
        # for whom it was made (nonce), and never which client got it (azp).
        if "nonce" in claims or not ("scp" in claims or "azp" in claims or _is_application(claims)):
            raise TokenRejected("id-token")

    def _check_issuer(self, claims: Claims, key: SigningKey) -> None:
        """Raises TokenRejected unless its tenant's issuer made it, by a key for that issuer."""
        tenant_id, v1 = _tenant_of(claims), claims["ver"] == "1.0"
        if claims["iss"] != (issuer_of(tenant_id, ISSUER_V1) if v1 else self.authority.issuer(tenant_id)):
            raise TokenRejected("issuer")
        if key.issuer is not None:
            key_issuer = issuer_of(tenant_id, key.issuer)  # that of v2.0, whatever the token's version
            if tenant_id not in key_issuer.split("/") or (not v1 and claims["iss"] != key_issuer):
                raise TokenRejected("key-issuer")


def _check_teams(claims: Claims) -> None:
    # The resource decides which version its tokens have: today it is 1.0.
    _check(claims, TEAMS_AUDIENCES, ("1.0", "2.0"))


def _check(claims: Claims, audiences: Sequence[str], versions: Sequence[str]) -> None:
    """Raises TokenRejected unless the token names a user, and is for one of `audiences` now."""
    _check_times(claims)
    if claims["aud"] not in audiences:  # a list of audiences is not one of them either
        raise TokenRejected("audience")
    _tenant_of(claims)
    if claims.get("ver") not in versions:
        raise TokenRejected("version")
    _user_of(claims)


def _is_application(claims: Claims) -> bool:
    return claims.get("idtyp") == "app" or claims.get("sub") == claims.get("oid")


def _check_times(claims: Claims) -> None:
    """Raises TokenRejected unless the token is good now; `jwt.decode` has seen that these are numbers."""
    now = time.time()
    if int(claims["exp"]) <= now:
        raise TokenRejected("expired")  # the leeway is meant for clocks that are behind ours
    if int(claims.get("nbf", 0)) > now + CLOCK_SKEW_SECONDS:
        raise TokenRejected("not-yet-valid")


def _tenant_of(claims: Claims) -> str:
    """The tenant, which the issuer must name too: that of a single tenant is the same whatever `tid` says."""
    tenant_id = _guid_of(claims, "tid")
    if tenant_id not in str(claims["iss"]).split("/"):
        raise TokenRejected("issuer")
    return tenant_id


def _user_of(claims: Claims, known_roles: Sequence[str] = ()) -> User:
    """The user. External ID, for one, may leave out name and user name: then other claims stand in."""
    given = claims.get("roles")
    username = _text_of(claims, "preferred_username") or _text_of(claims, "upn")
    name = _text_of(claims, "name") or _text_of(claims, "given_name", "family_name")
    return User(
        id=UserId(_guid_of(claims, "tid"), _guid_of(claims, "oid")),
        name=name or ("" if username else _text_of(claims, "email")),
        username=username,
        roles=tuple(role for role in known_roles if isinstance(given, list) and role in given),
    )


def _text_of(claims: Claims, *names: str) -> str:
    return display_text(" ".join(filter(None, (display_text(claims.get(name)) for name in names))))


def issued_at(claims: Claims) -> datetime:
    return datetime.fromtimestamp(int(claims["iat"]), UTC)


def _scopes_of(claims: Claims) -> tuple[str, ...]:
    scopes = claims.get("scp")
    return tuple(scopes.split()) if isinstance(scopes, str) else ()


def _guid_of(claims: Claims, name: str) -> str:
    try:
        return parse_guid(claims.get(name))
    except ValueError as error:
        raise TokenRejected(name) from error


CLAIM_CHECKS: Options = {
    "require": ["exp", "iat", "iss", "aud"],
    "verify_exp": True,
    "verify_iat": True,
    "verify_nbf": True,
    "verify_aud": False,
    "verify_sub": False,
}
REASONS = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not-yet-valid",
    jwt.InvalidSignatureError: "signature",
    jwt.MissingRequiredClaimError: "claim-missing",
    jwt.DecodeError: "malformed",
}
