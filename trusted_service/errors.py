"""What can go wrong, in the domain's own words.

Only `trusted_service.web.errors` turns these into statuses. The tree::

    TrustedServiceError
    ├── InvalidRequest          what was asked cannot be meant
    ├── NotSignedIn             no session, or one that has ended
    ├── InvalidToken            a bearer token that is not good
    ├── InvalidTeamsToken       a token for Teams that is not good, to us or to Communication Services
    ├── NotFound                there is no such user
    ├── SignInFailed            a sign-in that does not hold together
    ├── Refused                 we know who asks, and the answer is no
    │   ├── Blocked             an administrator blocked this user
    │   ├── CsrfFailed          the request does not prove that it comes from our own pages
    │   ├── ClientNotAllowed    the token was issued to a client that may not call us
    │   ├── InsufficientScope   the token does not carry our scope
    │   ├── OtherUser           what was presented belongs to somebody else
    │   ├── RoleMissing         only administrators may do this
    │   ├── TeamsNotGranted     the person or their organisation did not let us act in Teams
    │   └── TenantNotAllowed    the user's tenant is not one of ours
    ├── UpstreamError           Entra ID, Table Storage or Communication Services failed us
    │   ├── UpstreamThrottled   … and asks us to slow down
    │   └── UpstreamUnavailable … by an error, by silence, or by refusing us
    │       ├── IdentityMissing Communication Services says that it has no such identity, so far
    │       ├── IdentityNotOwned  … that the identity belongs to another resource
    │       ├── ForeignIdentity a mapping names an identity of another resource
    │       ├── WrongResource   … and answers for another resource than the identities belong to
    │       └── IndexMissing    the index of users was never built
    ├── IdentityNotFound        Communication Services itself says that there is no such identity
    └── Conflict                what was asked does not fit what is stored

`detail` is a sentence for a person and never holds a secret; the reason that only
operators may see goes to the log.
"""

import math
from typing import Final, Literal

COMMUNICATION_SERVICES: Final = "Communication Services"
Upstream = Literal["Entra ID", "Table Storage", "Communication Services"]


class TrustedServiceError(Exception):
    """Base of every error that this service raises on purpose."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidRequest(TrustedServiceError):
    """The request is malformed, or asks for something that nobody may have."""


class NotSignedIn(TrustedServiceError):
    """There is no session, or it has ended."""


class InvalidToken(TrustedServiceError):
    """A bearer token that is not good; `reason` is one word for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidTeamsToken(TrustedServiceError):
    """An Entra ID token for Teams that is not good; `reason` is one word for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotFound(TrustedServiceError):
    """There is no such user."""


class SignInFailed(TrustedServiceError):
    """A sign-in that cannot be completed; `reason` is one word for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Refused(TrustedServiceError):
    """The caller is known, or does not need to be, and may not do this."""


class Blocked(Refused):
    """An administrator has blocked this user."""


class CsrfFailed(Refused):
    """An unsafe request of a browser session without its CSRF value, or from another origin."""


class ClientNotAllowed(Refused):
    """A bearer token that was issued to a client which may not call this API."""


class InsufficientScope(Refused):
    """A genuine bearer token that does not carry our scope."""


class OtherUser(Refused):
    """A genuine token or sign-in, but of somebody else than the caller."""


class RoleMissing(Refused):
    """The caller does not have the app role that this takes."""


class TeamsNotGranted(Refused):
    """The person or their organisation did not let us act in Teams for them; `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TenantNotAllowed(Refused):
    """The user signed in, but belongs to a tenant that is not allowed here."""


Done = Literal["", "block", "delete", "delete-row"]
"""What an action had done before an upstream failed: nothing that lasts, the block, the whole deletion but
for tokens that only another resource can revoke, or the sessions and the mark of a deletion."""


class UpstreamError(TrustedServiceError):
    """A service that we depend on did not do its part.

    `retry_after` is the value of the upstream's own `Retry-After` header (seconds or an HTTP date, RFC 9110
    section 10.2.3), or None. `done` says which part of an action is in force all the same.
    """

    def __init__(self, upstream: Upstream, reason: str, retry_after: str | None = None) -> None:
        super().__init__(f"{upstream}: {reason}")
        self.upstream = upstream
        self.reason = reason
        self.retry_after = retry_after
        self.done: Done = ""

    def __str__(self) -> str:
        return f"{PARTLY_DONE[self.done]}{self.upstream}: {self.reason}"


PARTLY_DONE: dict[Done, str] = {
    "": "",
    "block": "blocked, but tokens are not revoked: ",
    "delete": "deleted, but tokens are not revoked: ",
    "delete-row": "not deleted, though signed out: ",
}
"""How the text of the error begins, which is what the audit trail records."""


class UpstreamThrottled(UpstreamError):
    """The upstream answered that it gets too many requests."""


class UpstreamUnavailable(UpstreamError):
    """The upstream failed, refused us, or did not respond in time.

    `outcome_unknown` is true where the upstream may have done what was asked; without a response
    (`responded`) it may even do so in a moment.
    """

    def __init__(
        self,
        upstream: Upstream,
        reason: str,
        retry_after: str | None = None,
        *,
        outcome_unknown: bool = False,
        responded: bool = True,
    ) -> None:
        super().__init__(upstream, reason, retry_after)
        self.outcome_unknown = outcome_unknown
        self.responded = responded


class IdentityMissing(UpstreamUnavailable):
    """Communication Services says that it has no such identity, but has not said so for long enough."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            COMMUNICATION_SERVICES, "the identity does not exist", str(max(1, math.ceil(seconds)))
        )


class IdentityNotOwned(UpstreamUnavailable):
    """Communication Services says that the identity belongs to another resource."""

    def __init__(self) -> None:
        super().__init__(COMMUNICATION_SERVICES, "HTTP 401 IdentityNotOwned")


class WrongResource(UpstreamUnavailable):
    """Communication Services answers for another resource than the one the identities here belong to."""

    def __init__(self, expected: str, found: str = "another one") -> None:
        reason = f"the identities here belong to the resource {expected}, and it answers for {found}"
        super().__init__(COMMUNICATION_SERVICES, reason)


class ForeignIdentity(UpstreamUnavailable):
    """A mapping names an identity of a resource that this storage was never moved away from."""

    def __init__(self, acs_user_id: str) -> None:
        super().__init__(COMMUNICATION_SERVICES, f"{acs_user_id} belongs to another resource")


class IndexMissing(UpstreamUnavailable):
    """The index of users was never built, or is of an older version."""

    def __init__(self) -> None:
        super().__init__("Table Storage", "there is no index of users: run `flask --app wsgi users reindex`")


class IdentityNotFound(TrustedServiceError):
    """Communication Services itself, by its own error code, says that it has no such identity."""


class Conflict(TrustedServiceError):
    """An operator's command does not fit what is stored; `detail` says why."""
