"""Issues and checks the access tokens of identities."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from local_azure.communication.errors import refuse_value
from local_azure.communication.identities import Identities, Identity
from local_azure.encoding import format_ticks
from local_azure.signing import KeyRing

SCOPES = frozenset({"chat", "voip", "chat.join", "chat.join.limited", "voip.join"})
TEAMS_SCOPES = ("chat", "voip")
MINUTES = range(60, 1441)
DEFAULT_MINUTES = 1440
REVOCATIONS = "localAzureRevocations"
"""The one claim that real tokens do not have: see `identities.Identity`."""


@dataclass(frozen=True)
class AccessToken:
    """An issued token and when it expires, in epoch seconds."""

    token: str
    expires_on: float

    def to_json(self) -> dict[str, object]:
        """Return the token as the service sends it."""
        return {"token": self.token, "expiresOn": format_ticks(self.expires_on)}


@dataclass(frozen=True)
class Verdict:
    """Whether a token is valid, and if not, why."""

    reason: str | None
    identity: str | None = None
    scopes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the verdict as the control route shows it."""
        return {
            "valid": self.reason is None,
            "reason": self.reason,
            "identity": self.identity,
            "scopes": list(self.scopes),
        }


class AccessTokens:
    """Signs tokens with the resource's own key."""

    def __init__(self, keys: KeyRing, identities: Identities) -> None:
        """Issue tokens for `identities`."""
        self._keys = keys
        self._identities = identities

    def issue(self, identity: Identity, scopes: Sequence[str], minutes: int) -> AccessToken:
        """Return a token for an identity, valid for `minutes`."""
        skype_id = identity.id.removeprefix("8:")
        expires_on = time.time() + minutes * 60
        return self._sign(skype_id, scopes, expires_on, {REVOCATIONS: identity.revocations})

    def issue_for_teams_user(self, object_id: str, expires_on: float) -> AccessToken:
        """Return a token for the Teams user with this object id, with the expiry of the exchanged token."""
        return self._sign(f"orgid:{object_id}", TEAMS_SCOPES, expires_on, {})

    def check(self, token: str) -> Verdict:
        """Tell whether a chat or calling service would accept `token` now."""
        try:
            claims = self._keys.read(token, audiences=None)
        except ValueError as error:
            return Verdict(str(error))
        raw_id = f"8:{claims['skypeid']}"
        scopes = tuple(str(claims["acsScope"]).split(","))
        if raw_id.startswith("8:orgid:"):
            return Verdict(None, raw_id, scopes)
        identity = self._identities.find(raw_id)
        if identity is None:
            return Verdict("the identity was deleted", raw_id, scopes)
        if claims[REVOCATIONS] != identity.revocations:
            return Verdict("the token was revoked", raw_id, scopes)
        return Verdict(None, raw_id, scopes)

    def _sign(
        self, skype_id: str, scopes: Sequence[str], expires_on: float, more: Mapping[str, int]
    ) -> AccessToken:
        now = time.time()
        claims: dict[str, object] = {
            "skypeid": skype_id,
            "scp": 1792,
            "csi": str(int(now)),
            "exp": int(expires_on),
            "rgn": "emea",
            "acsScope": ",".join(scopes),
            "resourceId": self._identities.resource_id,
            "resourceLocation": "europe",
            "iat": int(now),
            **more,
        }
        return AccessToken(self._keys.current.sign(claims), expires_on)


def check_minutes(minutes: object) -> int:
    """Return `expiresInMinutes`, or the default if it is null. Raises CommunicationError 400."""
    if minutes is None:
        return DEFAULT_MINUTES
    if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes not in MINUTES:
        raise refuse_value(
            f"ExpiresInMinutes value {minutes} is invalid. Value must be within the [60, 1440] interval.",
            "ExpiresInMinutes",
        )
    return minutes


def check_scopes(scopes: object) -> tuple[str, ...]:
    """Return the scopes of a token. Raises CommunicationError 400 if they are missing, empty or unknown."""
    if scopes is None:
        raise refuse_value("Scopes: The Scopes field is required.", "Scopes")
    if scopes == []:
        raise refuse_value("Invalid scopes - Scopes field is required.", "scopes")
    if not isinstance(scopes, list) or not all(
        isinstance(scope, str) and scope in SCOPES for scope in scopes
    ):
        raise refuse_value("Invalid scopes - Scopes contain an unknown value.", "scopes")
    return tuple(scopes)
