"""Finds users for administrators: page by page, by name, by any of their ids.

A page costs the same however many users there are: index rows lead to it, and the rows that decide
are read one by one. What the index says is checked against them.
"""

import functools
import itertools
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Literal

from trusted_service.errors import InvalidRequest
from trusted_service.later import Later
from trusted_service.models import Identity, UserId, parse_guid
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import RowChanged
from trusted_service.storage.user_index import (
    STATUSES,
    Hit,
    Status,
    UserIndex,
    index_keys,
    plain_text,
    status_of,
)

PAGE = 50
MOST_EXAMINED = 500
"""Index rows that one page may look at before it is cut short with a link to the next."""
READERS = 8
BUILD_WAIT_SECONDS = 8.0
"""How long a page waits for a missing index to be built."""
BUILT_TOGETHER = 300
ADOPT_EVERY_SECONDS = 60.0
REINDEX_ATTEMPTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class UserQuery:
    """What to look for. `text`: a beginning of a name or user name, an object id, or an ACS user id."""

    text: str = ""
    status: Status | None = None
    tenant_id: str | None = None
    sort: Literal["newest", "name"] = "newest"


@dataclass(frozen=True, kw_only=True, slots=True)
class UserPage:
    """Up to 50 users, and where the next page starts, or None. `indexed`: whether none can be missing."""

    users: list[Identity]
    next: str | None
    indexed: bool = True


class Directory:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, identities: IdentityTable, index: UserIndex, later: Later) -> None:
        self._identities = identities
        self._index = index
        self._later = later
        self._lock = threading.Lock()
        self._building: Future[None] | None = None
        self._adopt_at = float("-inf")

    def page(self, query: UserQuery, after: str = "", *, size: int = PAGE) -> UserPage:
        """Return the users that come after the place `after`, which an earlier page gave as `next`."""
        by_id = self._find_by_id(query.text)
        if by_id is not None:
            return UserPage(users=[user for user in by_id if _matches(user, query, None)], next=None)
        indexed = self._ensure_built()
        users: list[Identity] = []
        examined = 0
        while examined < MOST_EXAMINED:
            wanted = size - len(users) + 1
            hits = self._hits(query, after, wanted)
            page = hits[: wanted - 1]
            for hit, identity in zip(page, self.read([hit.user_id for hit in page]), strict=True):
                if identity is not None and _matches(identity, query, hit):
                    users.append(identity)
            examined += len(page)
            after = page[-1].row_key if page else after
            if len(hits) < wanted:
                return UserPage(users=users, next=None, indexed=indexed)
            if len(users) == size:
                break
        return UserPage(users=users, next=after, indexed=indexed)

    def find(self, user_id: UserId) -> Identity | None:
        return self._identities.find(user_id)

    def read(self, user_ids: list[UserId]) -> list[Identity | None]:
        """Read the rows side by side: one after the other, fifty would take fifty times as long."""
        with ThreadPoolExecutor(READERS) as pool:
            return [
                future.result()
                for future in [
                    pool.submit(copy_context().run, self._identities.find, user_id) for user_id in user_ids
                ]
            ]

    def all(self) -> Iterator[Identity]:
        """Every user, in no order that means anything, a page in memory at a time."""
        return self._identities.all()

    def reindex(self, user_id: UserId, *, force: bool = False) -> None:
        """Make the index lead to the user as they are now, and no more to what they were.

        Writes only what the user's row does not say is there already, or with `force` everything.
        """
        written: set[tuple[str, str]] = set()
        for _ in range(REINDEX_ATTEMPTS):
            identity = self._identities.find(user_id)
            if identity is None:
                self._index.remove(written)  # deleted meanwhile: nothing may lead to what they were called
                return
            keys = index_keys(identity)
            missing = [key for key in keys if force or key not in identity.index_keys]
            if not missing and keys == identity.index_keys:
                return
            self._index.write(missing, user_id)
            written.update(missing)
            stale = {*identity.index_keys, *written} - set(keys)
            self._index.remove(stale)
            try:
                # Last: until then the row names what is still to be removed.
                self._identities.note_index_keys(identity, keys)
            except RowChanged:
                continue
            return

    def forget(self, identity: Identity) -> None:
        """Remove what leads to a user who has been deleted."""
        self._index.remove(set(identity.index_keys) | set(index_keys(identity)))

    def _ensure_built(self) -> bool:
        """Whether every user is in the index. A missing one is built, which may take longer than we wait."""
        if self._index.is_built():
            self._adopt_now_and_then()
            return True
        with self._lock:
            if self._building is None or self._building.done():
                self._building = self._later.start(self.build)
        wait([self._building], BUILD_WAIT_SECONDS)
        return self._index.is_built()

    def _adopt_now_and_then(self) -> None:
        """Put users into the index whom somebody else wrote into the table (an import, a restored backup)."""
        with self._lock:
            if time.monotonic() < self._adopt_at:
                return
            self._adopt_at = time.monotonic() + ADOPT_EVERY_SECONDS
        self._later.do(self._adopt)

    def _adopt(self) -> None:
        for identity in self._identities.all():
            if not identity.index_keys:
                self.reindex(identity.user_id)

    def build(self) -> None:
        """Put every user into the index, as if nothing of it were there."""
        user_ids = (identity.user_id for identity in self._identities.all())
        while together := list(itertools.islice(user_ids, BUILT_TOGETHER)):
            with ThreadPoolExecutor(READERS) as pool:
                put = functools.partial(self.reindex, force=True)
                tasks = [pool.submit(put, user_id) for user_id in together]
            for task in tasks:
                task.result()
        self._index.note_built()

    def _hits(self, query: UserQuery, after: str, limit: int) -> list[Hit]:
        statuses = STATUSES if query.status is None else (query.status,)
        if query.text or query.sort == "name":
            return self._index.by_text(statuses, query.text, after=after, limit=limit)
        return self._index.newest(statuses, query.tenant_id, after=after, limit=limit)

    def _find_by_id(self, text: str) -> list[Identity] | None:
        """The users of this id, or None where the text is not an id."""
        text = text.strip()
        if re.match(r"8:[a-z-]*acs:", text):
            self._ensure_built()
            user_id = self._index.find_by_acs_user_id(text) if _is_acs_user_id(text) else None
            identity = None if user_id is None else self._identities.find(user_id)
            return [identity] if identity is not None and identity.acs_user_id == text else []
        tenant_id, slash, object_id = text.rpartition("/")
        try:
            if slash:
                identity = self._identities.find(UserId.parse(tenant_id, object_id))
                return [] if identity is None else [identity]
            return self._identities.find_in_all_tenants(parse_guid(text))
        except ValueError:
            return None


def _is_acs_user_id(text: str) -> bool:
    return re.fullmatch(r"8:[a-z-]*acs:[A-Za-z0-9_-]{1,200}", text) is not None


def _matches(identity: Identity, query: UserQuery, hit: Hit | None) -> bool:
    """Whether the row, which decides, is what was asked for; `hit` is what led to it."""
    if query.status is not None and status_of(identity) != query.status:
        return False
    if query.tenant_id is not None and identity.user_id.tenant_id != query.tenant_id:
        return False
    if hit is None:
        return True
    if hit.row_key not in {row for _, row in index_keys(identity)}:
        return False  # led here by what the user was called before
    if hit.kind == "newest":
        return True
    prefix = plain_text(query.text)
    by_name = plain_text(identity.name).startswith(prefix)
    # Found by both, somebody is shown once: where their name stands.
    return by_name if hit.kind == "name" else plain_text(identity.username).startswith(prefix) and not by_name


def parse_status(value: str) -> Status | None:
    """Raises InvalidRequest unless it is `active`, `blocked` or empty."""
    match value:
        case "":
            return None
        case "active" | "blocked":
            return value
    raise InvalidRequest("status must be active or blocked.")
