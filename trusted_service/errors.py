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
    │       └── ListNotReady    … so far: the index of users is being built, and they are many
    └── IdentityGone            Communication Services no longer knows an identity

`detail` is a sentence for a person and never holds a secret; the reason that only
operators may see goes to the log.
"""

from typing import Literal

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


class UpstreamError(TrustedServiceError):
    """A service that we depend on did not do its part.

    `retry_after` is what the upstream asked for, as it stood in its `Retry-After` header
    (seconds or an HTTP date, RFC 9110 section 10.2.3), or None.
    """

    def __init__(self, upstream: Upstream, reason: str, retry_after: str | None = None) -> None:
        super().__init__(f"{upstream}: {reason}")
        self.upstream = upstream
        self.reason = reason
        self.retry_after = retry_after


class UpstreamThrottled(UpstreamError):
    """The upstream answered that it gets too many requests."""


class UpstreamUnavailable(UpstreamError):
    """The upstream failed, refused us, or did not answer in time.

    `outcome_unknown` is true where the upstream may have done what was asked.
    """

    def __init__(
        self,
        upstream: Upstream,
        reason: str,
        retry_after: str | None = None,
        *,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(upstream, reason, retry_after)
        self.outcome_unknown = outcome_unknown


class ListNotReady(UpstreamUnavailable):
    """There is no index of the users yet, and they are too many to do without."""

    def __init__(self) -> None:
        super().__init__("Table Storage", "the index of users is being built", "10")


class IdentityGone(TrustedServiceError):
    """Communication Services does not know the identity (deleted there, or of another resource)."""
