"""The things this service speaks about: plain frozen values without behaviour of their own."""

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

    `acs_user_id` is None only for a blocked user who has no identity (never came, or was deleted).
    `blocking` and `deleting` are true while that is under way, or was cut short and is to be finished.
    `dated` is false where the row does not say since when the user is known. `version` is the row's
    ETag, for writes that must not overtake another; where only a list was read it may be empty.
    """

    user_id: UserId
    name: str
    username: str
    acs_user_id: str | None
    created_at: datetime
    last_token_at: datetime | None
    blocked: bool
    block_reason: str = ""
    blocking: bool = False
    deleting: bool = False
    dated: bool = True
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOrigin:
    """Where a session was started from, as far as the browser and its network tell."""

    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A signed-in browser. `key` names its row; the browser holds what the key is the hash of.

    `acs_user_id` saves the token route a read of the mapping, once it is known;
    `token_noted_at` is when the user's `last_token_at` was last written on behalf of this session.
    """

    key: str
    user: User
    created_at: datetime
    seen_at: datetime
    login_hint: str | None
    origin: "SessionOrigin"
    acs_user_id: str | None = None
    token_noted_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessToken:
    """A Communication Services access token. Opaque to us; `expires_on` is in UTC."""

    token: str
    expires_on: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedToken:
    """A token with what it is for: the caller's own identity, and the scopes it carries.

    `identity_event` says what happened to the mapping on the way, if anything did.
    """

    access_token: AccessToken
    acs_user_id: str
    scopes: tuple[str, ...]
    identity_event: Literal["identity-created", "identity-healed"] | None = None


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
