"""What administrators look for in the list of users, and where in it a user stands."""

from dataclasses import dataclass
from typing import Literal

from trusted_service.errors import InvalidRequest
from trusted_service.models import Identity
from trusted_service.storage.user_entry import (
    Status,
    name_key,
    newest_key,
    plain_text,
    status_of,
    username_key,
)

Sort = Literal["newest", "name"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserQuery:
    """What to look for. `text`: a beginning of a name or user name, an object id, or an ACS user id.

    The order is by name where `text` is one to begin with, whatever `sort` says.
    """

    text: str = ""
    status: Status | None = None
    tenant_id: str | None = None
    sort: Sort = "newest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a page starts: behind this key, in a list whose first page was asked for at `began`.

    That is a time of the clock, in seconds since 1970: who was written before it is in the list.
    """

    key: str
    began: float


@dataclass(frozen=True, kw_only=True, slots=True)
class UserPage:
    """Up to so many users, and where the next page starts, or None."""

    users: list[Identity]
    next: Place | None


def admits(query: UserQuery, identity: Identity) -> bool:
    """Whether the user is one of those asked for, apart from the text."""
    if query.status is not None and status_of(identity) != query.status:
        return False
    return query.tenant_id is None or identity.user_id.tenant_id == query.tenant_id


def find_key(query: UserQuery, identity: Identity) -> str | None:
    """The key at which the user stands in the list that the query asks for, or None where they do not.

    It is that of the index, so a list that was begun without it goes on with it.
    """
    if not admits(query, identity):
        return None
    if not query.text:
        return newest_key(identity) if query.sort == "newest" else name_key(identity)
    prefix = plain_text(query.text)
    if plain_text(identity.name).startswith(prefix):
        return name_key(identity)
    # Found by both, somebody is shown once: where their name stands.
    return username_key(identity) if plain_text(identity.username).startswith(prefix) else None


def parse_status(value: str) -> Status | None:
    """Raises InvalidRequest unless it is `active`, `blocked` or empty."""
    match value:
        case "":
            return None
        case "active" | "blocked":
            return value
    raise InvalidRequest("status must be active or blocked.")


def parse_sort(value: str) -> Sort:
    """The order of this name; for any other name it is the usual one."""
    return "name" if value == "name" else "newest"
