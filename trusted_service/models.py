"""The values of the domain: frozen, without behaviour of their own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Self
from uuid import UUID

MAX_REASON = 300


class UserId(NamedTuple):
    """A user of Entra ID: tenant and object id, both GUIDs in lower case. Names and addresses change hands.

    https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference
    """

    tenant_id: str
    object_id: str

    @classmethod
    def parse(cls, tenant_id: object, object_id: object) -> Self:
        """Raises ValueError unless both are GUIDs in their usual, hyphenated form."""
        return cls(parse_guid(tenant_id), parse_guid(object_id))

    @classmethod
    def parse_key(cls, text: str, tenants: Sequence[str]) -> Self:
        """Parse `<tenant id>/<object id>`, or `<object id>` if one tenant is allowed. Raises ValueError."""
        tenant_id, slash, object_id = text.strip().rpartition("/")
        if not slash and len(tenants) == 1:
            tenant_id = tenants[0]
        return cls.parse(tenant_id, object_id)

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.object_id}"


def parse_guid(value: object) -> str:
    """The GUID in lower case. Raises ValueError for anything but its 36-character form."""
    if isinstance(value, str) and len(value) == 36 and value.isascii():
        guid = str(UUID(value))
        if guid == value.lower():
            return guid
    raise ValueError("not a GUID")


RAW_ID = re.compile(r"(8:(?:gcch-|dod-)?acs:[a-z0-9.-]+)_[a-z0-9.-]+", re.IGNORECASE)
MAX_ACS_USER_ID = 256


def find_resource(acs_user_id: str) -> str | None:
    """The resource that an ACS user id names (`8:acs:<GUID>`), in lower case."""
    match = RAW_ID.fullmatch(acs_user_id) if len(acs_user_id) <= MAX_ACS_USER_ID else None
    return match[1].lower() if match else None


# JWTs and what we sign (base64 of `{"`…, or compressed), and the keys in connection strings and signatures.
TOKENS = re.compile(r"(?:eyJ|\.eJ)[A-Za-z0-9_-]{10}[A-Za-z0-9_.-]*")
KEYS = re.compile(r"((?:(?:account|access)key|\bsig)=)[A-Za-z0-9+/=%]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """The text without what looks like a token or an access key: the last line of defence."""
    return KEYS.sub(r"\1[removed]", TOKENS.sub("[removed]", text))


def rfc3339(time: datetime) -> str:
    """A time in UTC as `2026-01-31T23:59:59Z`, rounded down to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A user as Entra ID described them at sign-in. Names are for display only."""

    id: UserId
    name: str
    username: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """The mapping of one user: a row of the table `identities`, which is the truth.

    - `acs_user_id` is None only for a blocked user without an identity.
    - `blocking` and `deleting`: in progress, or interrupted and still to be finished.
    - `switched_at`: since when the row names its identity, if it named another one before.
    - `missing_since`: when Communication Services first said that the identity does not exist.
    - `switching`: the row is about to name another identity.
    - `index_keys`, `indexed`: the user's rows in the index, and whether they show the row as it is.
    - `version`: the row's ETag; empty for a copy.
    """

    user_id: UserId
    created_at: datetime
    name: str = ""
    username: str = ""
    acs_user_id: str | None = None
    last_token_at: datetime | None = None
    blocked: bool = False
    block_reason: str = ""
    blocking: bool = False
    deleting: bool = False
    missing_since: datetime | None = None
    switched_at: datetime | None = None
    switching: bool = False
    index_keys: tuple[str, ...] = ()
    indexed: bool = False
    version: str = ""

    @property
    def acs_user_since(self) -> datetime:
        """Since when the row names its ACS identity."""
        return self.switched_at or self.created_at

    @property
    def held(self) -> bool:
        """Whether the identity may be another one soon, so that no session may cache it."""
        return self.switching or self.missing_since is not None


Reason = Literal["replaced", "deleted", "moved"]  # why an identity is not its user's any more


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """An ACS identity that a mapping names or has named. `owner` is None after an erasure."""

    acs_user_id: str
    owner: UserId | None
    since: datetime | None = None
    until: datetime | None = None
    reason: Reason | None = None
    version: str = ""

    @property
    def ended_at(self) -> datetime:
        """Now, for an identity without an end: it is current, or was a moment ago."""
        return self.until or datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A signed-in browser, which holds the secret to `key`. `acs_user_id` caches the user's identity.

    `flow` names the last flow that it completed, so that a reloaded callback is recognised.
    """

    key: str
    user: User
    created_at: datetime
    seen_at: datetime
    login_hint: str | None
    address: str = ""
    user_agent: str = ""
    flow: str = ""
    acs_user_id: str | None = None
    token_recorded_at: datetime | None = None
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessToken:
    """A Communication Services access token, opaque to this service. `expires_on` is in UTC."""

    token: str
    expires_on: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRequest:
    """What a caller asks for. `session_key` names the session that must still exist, if there is one."""

    user: User
    scopes: tuple[str, ...]
    minutes: int
    session_key: str | None


Change = Literal["created", "replaced", "moved"]  # what a token request did to the mapping


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token for the caller's own identity. `row` is the mapping, if it was read for this."""

    access_token: AccessToken
    acs_user_id: str
    scopes: tuple[str, ...]
    row: Identity | None = None
    change: Change | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The user of a request, with their `session` or, for a bearer token, `identity`; an app has neither."""

    user: User
    session: Session | None = None
    identity: Identity | None = None
    application: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Somebody who acts on a user. `key` never changes hands: a user id, or an operator's OS user.

    Without a name, because what an actor did is kept for longer than they may be here.
    """

    kind: Literal["administrator", "application", "operator", "user", "system"]
    key: str

    @property
    def user_id(self) -> UserId | None:
        """The administrator; None for anybody else."""
        tenant_id, _, object_id = self.key.partition("/")
        return UserId(tenant_id, object_id) if self.kind == "administrator" else None


SYSTEM = Actor(kind="system", key="system")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEvent:
    """One line of the audit trail. An action has two, with one `action_id`: `started`, then its outcome."""

    action_id: str
    at: datetime
    actor: Actor
    action: str
    target: UserId | None
    outcome: Literal["started", "done", "failed"]
    detail: str
    request_id: str
