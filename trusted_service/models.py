"""The things this service speaks about: plain frozen values without behaviour of their own."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Self
from uuid import UUID

LONGEST_NAME = 256


class UserId(NamedTuple):
    """Who a person is to Entra ID: the tenant and the object id, both GUIDs in lower case.

    Names and e-mail addresses change hands; this pair does not. The same person in two tenants
    is two users. https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference
    """

    tenant_id: str
    object_id: str

    @classmethod
    def parse(cls, tenant_id: object, object_id: object) -> Self:
        """Raises ValueError unless both are GUIDs in their usual, hyphenated form."""
        return cls(parse_guid(tenant_id), parse_guid(object_id))

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.object_id}"


def parse_guid(value: object) -> str:
    """Return the GUID in lower case; raises ValueError for anything but its 36-character form.

    Table keys may hold neither `/ \\ # ?` nor control characters, so no id reaches the storage
    without having passed here.
    """
    if isinstance(value, str) and len(value) == 36 and value.isascii():
        guid = str(UUID(value))
        if guid == value.lower():
            return guid
    raise ValueError("not a GUID")


_RAW_ID = re.compile(r"(8:(?:gcch-|dod-)?acs:[a-z0-9.-]+)_[a-z0-9.-]+", re.IGNORECASE)
LONGEST_ACS_USER_ID = 256


def find_resource(acs_user_id: str) -> str | None:
    """The part of an ACS user id that names its resource (`8:acs:<GUID>`), in lower case; None for anything
    else.

    https://learn.microsoft.com/azure/communication-services/concepts/identifiers#raw-id-representation
    """
    match = _RAW_ID.fullmatch(acs_user_id) if len(acs_user_id) <= LONGEST_ACS_USER_ID else None
    return match[1].lower() if match else None


def display_text(value: object) -> str:
    """A name as it may be shown: one short line, without invisible or direction-changing characters."""
    text = value[: 2 * LONGEST_NAME] if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable())[:LONGEST_NAME]


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A person as Entra ID described them when they signed in. Names are for display only."""

    id: UserId
    name: str
    username: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """The mapping of one user: a row of the table `identities`, which is the truth.

    `acs_user_id` is None only for a blocked user who has no identity (never signed in, or was deleted).
    `blocking` and `deleting` are true while that is in progress, or was interrupted and has to be finished.
    `switched_at` is when the row came to name its identity, where it named another one before.
    `missing_since` is when Communication Services first said that the identity does not exist; `switching` is
    true while the row is about to name another one. `index_keys` are the rows of the user index that lead to
    the user; `indexed` is false where they do not show the row as it is. `version` is the row's ETag, for
    writes that must not overtake another; it is empty where only a copy was read.
    """

    user_id: UserId
    name: str
    username: str
    acs_user_id: str | None
    created_at: datetime
    last_token_at: datetime | None
    blocked: bool
    switched_at: datetime | None = None
    block_reason: str = ""
    blocking: bool = False
    deleting: bool = False
    missing_since: datetime | None = None
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


Reason = Literal["replaced", "deleted", "moved"]
"""Why an identity is no longer its user's current one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """An ACS identity that a mapping names or has named.

    `owner` is None after an erasure; then nothing but the id is known. `until` and `reason` are None for an
    identity that has never been a former one.
    """

    acs_user_id: str
    owner: UserId | None
    since: datetime | None
    until: datetime | None = None
    reason: Reason | None = None
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOrigin:
    """Where a session was started from, as far as the browser and its network tell."""

    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A signed-in browser. `key` names its row; the browser holds what the key is the hash of.

    `acs_user_id` caches the user's identity, which saves the token route a read of the mapping;
    `token_noted_at` is when the user's `last_token_at` was last written on behalf of this session.
    `version` is the row's ETag.
    """

    key: str
    user: User
    created_at: datetime
    seen_at: datetime
    login_hint: str | None
    origin: "SessionOrigin"
    acs_user_id: str | None = None
    token_noted_at: datetime | None = None
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessToken:
    """A Communication Services access token. Opaque to us; `expires_on` is in UTC."""

    token: str
    expires_on: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedToken:
    """A token with what it is for: the caller's own identity, and the scopes it carries.

    `row` is the mapping as it then was, where it was read; without it the session's cached id was used.
    `change` says what happened to the mapping on the way, and `former_acs_user_id` which identity it named
    before.
    """

    access_token: AccessToken
    acs_user_id: str
    scopes: tuple[str, ...]
    row: Identity | None = None
    change: Literal["created", "replaced", "moved"] | None = None
    former_acs_user_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who makes a request, however that was found out.

    `session` is that of a browser. A bearer token's user comes with their `identity`, read for this
    request, instead; an app-only token's (`application`) is no person, and has neither.
    """

    user: User
    session: Session | None = None
    identity: Identity | None = None
    application: bool = False


ActorKind = Literal["administrator", "application", "operator", "user", "system"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who does something to a user. `key` never changes hands: a user id, or an operator's OS user."""

    kind: ActorKind
    key: str
    name: str


SYSTEM = Actor(kind="system", key="system", name="")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEvent:
    """One line of the audit trail; the intent and the outcome of an action share their `action_id`.

    `outcome` is `started` for an intent, then `done`, or `failed` with `detail` saying why.
    """

    action_id: str
    at: datetime
    actor: Actor
    action: str
    target: UserId | None
    outcome: Literal["started", "done", "failed"]
    detail: str
    request_id: str
