"""Lists and searches users for administrators, page by page.

A page is one query of the index per tenant, however many users there are. Actions read the mapping row.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from trusted_service.access.user_index import UserIndex
from trusted_service.azure.parallel import map_parallel
from trusted_service.models import Identity, UserId, find_resource, parse_guid
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.index_rows import first_key, indexed_user, search_start
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.tables import Row
from trusted_service.texts import display_text

PAGE, MORE = 50, 1000
"""Users on a page, and rows that are read at once if the first ones were not enough for one."""

Status = Literal["active", "blocked"]
Sort = Literal["newest", "name"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserQuery:
    """What to look for. `text`: the beginning of a word of a name, or an id; it decides the order, too."""

    text: str = ""
    status: Status | None = None
    tenant_id: str | None = None
    sort: Sort = "newest"

    def admits(self, user: Identity) -> bool:
        """Whether a user who was found by an id satisfies the other conditions."""
        right_status = self.status is None or user.blocked is (self.status == "blocked")
        return right_status and self.tenant_id in (None, user.user_id.tenant_id)


def search_text(text: str) -> str:
    """A search as names are stored. One of invisible characters alone is kept, and finds nobody."""
    return display_text(text, len(text)) or text.strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where the next page starts: after this row of this tenant."""

    key: str = ""
    tenant_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserPage:
    """Users, and where the next page starts, or None."""

    users: list[Identity]
    next: Position | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    identities: IdentityTable
    ledger: Ledger
    index: UserIndex
    tenants: Sequence[str]

    def page(self, query: UserQuery, position: Position | None = None, *, size: int = PAGE) -> UserPage:
        """Return the users after the position, the `next` of an earlier page. Raises IndexMissing."""
        found = self._find_by_text(query.text)
        if found == [] and find_resource(query.text.strip()):
            self.index.require()  # without it, the ledger may be incomplete too
        if found is not None:
            return UserPage(users=[user for user in found if query.admits(user)])
        self.index.require()
        users: list[Identity] = []
        last = position
        for row in self._rows(query, position or Position(), size):
            user = indexed_user(row)
            # Several rows of a user can match: the first one shows the user, on whatever page it is.
            if query.text and row["RowKey"].removeprefix("b") != first_key(user, query.text):
                continue
            if len(users) == size:
                return UserPage(users=users, next=last)
            users.append(user)
            last = Position(key=row["RowKey"], tenant_id=row["PartitionKey"])
        return UserPage(users=users)

    def find_owners(self, texts: Collection[str]) -> dict[str, list[Identity]]:
        """The users who have exactly these user names, or have these ACS user ids now, in any letter case.

        Raises IndexMissing.
        """
        if texts:
            self.index.require()
        return dict(zip(texts, map_parallel(self._find_owners, texts), strict=True))

    def _find_owners(self, text: str) -> list[Identity]:
        if find_resource(text):
            entry = self.ledger.find(text)
            owner = self.identities.find(entry.owner) if entry and entry.owner else None
            return [owner] if owner and (owner.acs_user_id or "").lower() == text.lower() else []
        start, users = search_start(text), list[Identity]()
        for tenant_id in self.tenants:
            rows = self.index.table.range(tenant_id, start=f"{start} ", below=f"{start}!", limit=MORE)
            # These are names, too, and have no accents.
            users += (user for user in map(indexed_user, rows) if user.username.casefold() == text.casefold())
        return users

    def _rows(self, query: UserQuery, position: Position, size: int) -> Iterator[Row]:
        tenants = sorted(self.tenants) if query.tenant_id is None else [query.tenant_id]
        by_tenant = (self._rows_of_tenant(query, tenant_id, position, size) for tenant_id in tenants)
        return heapq.merge(*by_tenant, key=lambda row: (row["RowKey"], row["PartitionKey"]))

    def _rows_of_tenant(
        self, query: UserQuery, tenant_id: str, position: Position, size: int
    ) -> Iterator[Row]:
        start, below, equal = _range(query)
        # Two tenants can have the same key, so the page may continue in the middle of one.
        after = position.key if tenant_id <= position.tenant_id else ""
        start = max(start, position.key)
        # A search finds some users twice, so it reads a few rows more than it shows.
        limit = min(MORE, 2 * size if query.text else size + 1)
        while rows := self.index.table.range(
            tenant_id, start=start, after=after, below=below, limit=limit, equal=equal
        ):
            yield from rows
            if len(rows) < limit:
                return
            after, limit = str(rows[-1]["RowKey"]), MORE

    def _find_by_text(self, text: str) -> list[Identity] | None:
        """The users of an object id, `<tenant id>/<object id>` or ACS user id; None for other text."""
        text = text.strip()
        try:
            if find_resource(text):
                entry = self.ledger.find(text)
                user_id = entry.owner if entry and entry.acs_user_id == text else None
            elif "/" in text:
                user_id = UserId.parse(*text.split("/", 1))
            else:
                return self.identities.find_in_all_tenants(parse_guid(text))
        except ValueError:
            return None
        user = self.identities.find(user_id) if user_id else None
        return [] if user is None else [user]


def _range(query: UserQuery) -> tuple[str, str, dict[str, object]]:
    """The first key, the key behind the last one, and columns that a row must equal."""
    blocked = "b" if query.status == "blocked" else ""
    equal: dict[str, object] = {"Blocked": False} if query.status == "active" else {}
    if query.text:
        start = f"{blocked}{search_start(query.text)}"
        return start, f"{start}\uffff", equal
    if query.sort == "name":
        return f"{blocked}t|", f"{blocked}t}}", equal | {"WholeName": True}
    return f"{blocked}n|", f"{blocked}n}}", equal
