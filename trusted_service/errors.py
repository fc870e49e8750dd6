"""The errors of the domain. `web/http/error_handlers.py` gives each a status and a text for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

Upstream = Literal["Entra ID", "Table Storage", "Communication Services"]
Cause = Literal["not-assigned", "policy", "approval", "account", "declined", "again", "setup", "no-flow"]
"""Why a sign-in failed, where somebody can do something about it; all but the last are by Entra ID."""


class TrustedServiceError(Exception):
    """Base of every error that this service raises on purpose.

    `reason` is a word or two for the log; `details` are an upstream's own ids and codes, for the log too.
    """

    def __init__(self, reason: str = "", details: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = details or {}


class InvalidRequest(TrustedServiceError):
    """The request is invalid. `reason` is a sentence for the person and holds no secret."""


class Conflict(TrustedServiceError):
    """An operator's command does not fit what is stored. `reason` is a sentence for the operator."""


class NotFound(TrustedServiceError):
    """The user does not exist."""


class NotSignedIn(TrustedServiceError):
    """The session does not exist, or has ended."""


class InvalidToken(TrustedServiceError):
    """A bearer token is not valid."""


class InvalidTeamsToken(TrustedServiceError):
    """An Entra ID token for Teams is not valid."""


class SignInFailed(TrustedServiceError):
    """A sign-in cannot be completed; `cause` says why where it is known."""

    def __init__(
        self, reason: str, details: Mapping[str, str] | None = None, cause: Cause | None = None
    ) -> None:
        super().__init__(reason, details)
        self.cause = cause


class ConsentRefused(TrustedServiceError):
    """An administrator was asked to consent to this service and did not."""


class Blocked(TrustedServiceError):
    """An administrator has blocked the user."""


class CsrfFailed(TrustedServiceError):
    """An unsafe request of a browser session has no valid CSRF value, or comes from another origin."""


class ClientNotAllowed(TrustedServiceError):
    """The token was issued to a client that may not call this API."""


class InsufficientScope(TrustedServiceError):
    """A valid bearer token does not carry the service's scope."""


class OtherUser(TrustedServiceError):
    """A valid token or sign-in belongs to another user than the caller."""


class RoleMissing(TrustedServiceError):
    """The caller does not have the administrators' app role."""


class OwnAccount(TrustedServiceError):
    """An administrator would block or delete themselves."""


class LastAdministrator(TrustedServiceError):
    """Nobody who could undo it would be left, and that was not confirmed."""


class TeamsNotGranted(SignInFailed):
    """Entra ID did not let the service act in Teams for the user."""


class TenantNotAllowed(TrustedServiceError):
    """The user belongs to a tenant that is not allowed here."""


Done = Literal["", "action", "block", "block-row", "block-unknown", "delete", "delete-row"]
"""The part of an action that is in force although an upstream failed."""
PARTLY_DONE: dict[Done, str] = {
    "action": "done, but the user cannot be read: ",
    "block": "blocked, but tokens are not revoked: ",
    "block-row": "blocked, but sessions have not ended: ",
    "block-unknown": "perhaps blocked: ",
    "delete": "deleted, but tokens are not revoked: ",
    "delete-row": "not deleted, though signed out: ",
}
"""The beginning of the error's text, which the audit trail records."""


@dataclass(eq=False)
class UpstreamError(TrustedServiceError):
    """Entra ID, Table Storage or Communication Services failed. `retry_after` is its own header."""

    upstream: Upstream
    reason: str
    retry_after: str | None = None
    outcome_unknown: bool = field(default=False, kw_only=True)  # it may have done its work
    responded: bool = field(default=True, kw_only=True)  # if not, it may still do its work
    details: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    done: Done = field(default="", init=False)

    @property
    def log_fields(self) -> dict[str, str]:
        """What a log line says about the failure."""
        fields = {"upstream": self.upstream, "reason": self.reason, "error": type(self).__name__}
        return {**fields, **self.details}

    def __str__(self) -> str:
        return f"{PARTLY_DONE.get(self.done, '')}{self.upstream}: {self.reason}"


DEFAULT_PAUSE, MIN_PAUSE, MAX_PAUSE = 5.0, 1.0, 120.0
"""Seconds to pause where an upstream throttles: without a `Retry-After`, and the limits of one."""


class UpstreamThrottled(UpstreamError):
    """The upstream receives too many requests."""

    @property
    def pause(self) -> float:
        """The seconds for which a background task or a job pauses."""
        seconds = retry_after_seconds(self.retry_after)
        return DEFAULT_PAUSE if seconds is None else min(max(seconds, MIN_PAUSE), MAX_PAUSE)


class UpstreamUnavailable(UpstreamError):
    """The upstream failed, refused the call, or did not respond in time."""


class ChangedTooOften(UpstreamUnavailable):
    """A row was different at each attempt to change it, as others act on it at the same moment."""

    def __init__(self) -> None:
        super().__init__("Table Storage", "the row changed too often")


class AppRefused(UpstreamUnavailable):
    """Entra ID refuses the app itself: its credential, or its registration."""


class IdentityMissing(UpstreamUnavailable):
    """The identity does not exist, and is not replaced yet."""


class IdentityNotOwned(UpstreamUnavailable):
    """Communication Services reports that the identity belongs to another resource."""


class WrongResource(UpstreamUnavailable):
    """The settings lead to another Communication Services resource than the identities belong to."""

    def __init__(self, expected: str, found: str = "another one") -> None:
        reason = f"the identities here belong to the resource {expected}, and it responds as {found}"
        super().__init__("Communication Services", reason)


class IndexMissing(UpstreamUnavailable):
    """The index of users was never built, or has an older version."""


class IdentityNotFound(TrustedServiceError):
    """Communication Services reports, by its own error code, that the identity does not exist."""


def retry_after_seconds(value: str | None) -> float | None:
    """The seconds to wait by a `Retry-After` (RFC 9110 section 10.2.3); None unless it is well-formed."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 10 else None
    try:
        moment = datetime.strptime(value, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


class ManagedIdentityFailed(Exception):
    """The managed identity gives no token, so there was no call; the message says why and holds no secret."""
