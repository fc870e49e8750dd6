"""Lists and searches users for administrators, page by page.

A page is one query of the index for each tenant, however many users there are, and one read that tells
whether the index is complete. Lists show copies; whatever acts upon a user reads the mapping row.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from trusted_service.index_rows import first_key, indexed_user, search_start
from trusted_service.models import Identity, find_resource
from trusted_service.storage.tables import Row
from trusted_service.storage.user_index import UserIndexTable
from trusted_service.user_index import UserIndex
from trusted_service.user_lookup import UserLookup

PAGE, MORE = 50, 1000
"""Users on a page, and rows that are read at once where the first ones were not enough for one."""

Status = Literal["active", "blocked"]
Sort = Literal["newest", "name"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserQuery:
    """What to look for. `text`: the beginning of a word of the name or of the user name, or an id.

    Users found by a text are in its order, whatever `sort` says.
    """

    text: str = ""
    status: Status | None = None
    tenant_id: str | None = None
    sort: Sort = "newest"

    def admits(self, user: Identity) -> bool:
        """Whether a user who was found by an id is one of those asked for."""
        right_status = self.status is None or user.blocked is (self.status == "blocked")
        return right_status and self.tenant_id in (None, user.user_id.tenant_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the next page starts: after this row of this tenant."""

    key: str = ""
    tenant_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserPage:
    """Up to so many users, and where the next page starts, or None."""

    users: list[Identity]
    next: Place | None = None


class Directory:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(
        self, table: UserIndexTable, index: UserIndex, lookup: UserLookup, tenants: Sequence[str]
    ) -> None:
        self._table = table
        self._index = index
        self._lookup = lookup
        self._tenants = sorted(tenants)

    def page(self, query: UserQuery, place: Place | None = None, *, size: int = PAGE) -> UserPage:
        """Return the users after the place, which an earlier page gave as `next`. Raises IndexMissing."""
        found = self._lookup.find_by_text(query.text)
        if found == [] and find_resource(query.text.strip()):
            self._index.require()  # without it, the ledger may lack somebody too
        if found is not None:
            return UserPage(users=[user for user in found if query.admits(user)])
        self._index.require()
        users: list[Identity] = []
        last = place
        for row in self._rows(query, place or Place(), size):
            user = indexed_user(row)
            # Several rows of one user can match: the first one shows them, on whatever page it is.
            if query.text and row["RowKey"].removeprefix("b") != first_key(user, query.text):
                continue
            if len(users) == size:
                return UserPage(users=users, next=last)
            users.append(user)
            last = Place(key=row["RowKey"], tenant_id=row["PartitionKey"])
        return UserPage(users=users)

    def _rows(self, query: UserQuery, place: Place, size: int) -> Iterator[Row]:
        tenants = self._tenants if query.tenant_id is None else [query.tenant_id]
        by_tenant = (self._rows_of_tenant(query, tenant_id, place, size) for tenant_id in tenants)
        return heapq.merge(*by_tenant, key=lambda row: (row["RowKey"], row["PartitionKey"]))

    def _rows_of_tenant(self, query: UserQuery, tenant_id: str, place: Place, size: int) -> Iterator[Row]:
        start, below, equal = _range(query)
        # Two tenants can have the same key, so the page may go on in the middle of one.
        after = place.key if tenant_id <= place.tenant_id else ""
        start = max(start, place.key)
        # A search finds some users twice, so it reads a few rows more than it shows.
        limit = min(MORE, 2 * size if query.text else size + 1)
        bounds = {"start": start, "below": below}
        while rows := self._table.page(tenant_id, **bounds, after=after, limit=limit, equal=equal):
            yield from rows
            if len(rows) < limit:
                return
            after, limit = str(rows[-1]["RowKey"]), MORE


def _range(query: UserQuery) -> tuple[str, str, dict[str, object]]:
    """The first key, the key behind the last one, and what a row must equal, for a query without an id."""
    blocked = "b" if query.status == "blocked" else ""
    equal: dict[str, object] = {"Blocked": False} if query.status == "active" else {}
    if query.text:
        start = f"{blocked}{search_start(query.text)}"
        return start, f"{start}\uffff", equal
    if query.sort == "name":
        return f"{blocked}t|", f"{blocked}t}}", equal | {"WholeName": True}
    return f"{blocked}n|", f"{blocked}n}}", equal
