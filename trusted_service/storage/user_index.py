"""The table `userindex`: rows that only help to find users, in an order or by what they are called.

Each row's key leads to one user and holds nothing else worth having: what a search finds is read
from `identities` and checked against it, so a stale row here shows nobody anything wrong. Kinds of
partition, each once for active and once for blocked users:

- `newest-…` and `newest-…-<tenant id>`: by the time of creation, the newest first
- `name-…`, `username-…`: by name and user name in small letters without accents
- `acs-<ACS user id>`: the one user whose identity that is
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Literal

from trusted_service.models import Identity, UserId
from trusted_service.storage.identities import IndexKeys
from trusted_service.storage.tables import Table

Status = Literal["active", "blocked"]
STATUSES: tuple[Status, ...] = ("active", "blocked")

LONGEST_TEXT = 100
LAST_MILLISECOND = 10**14  # in the year 5138: what is taken from it makes newer rows come first
UNDECOMPOSED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}  # noqa: RUF001
)
"""Letters that Unicode does not take for others with a mark, though people who search do."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An index row: its key in its partition, by which a page is continued, and the user it leads to."""

    row_key: str
    kind: Literal["newest", "name", "username"]
    user_id: UserId


class UserIndex:
    def __init__(self, table: Table) -> None:
        self._table = table

    def write(self, keys: Iterable[tuple[str, str]], user_id: UserId) -> None:
        for partition, row in keys:
            self._table.put(
                {
                    "PartitionKey": partition,
                    "RowKey": row,
                    "TenantId": user_id.tenant_id,
                    "ObjectId": user_id.object_id,
                }
            )

    def remove(self, keys: Iterable[tuple[str, str]]) -> None:
        for partition, row in keys:
            self._table.delete(partition, row)

    def find_by_acs_user_id(self, acs_user_id: str) -> UserId | None:
        row = self._table.find(f"acs-{acs_user_id}", "user")
        return None if row is None else UserId.parse(row["TenantId"], row["ObjectId"])

    def newest(
        self, statuses: Iterable[Status], tenant_id: str | None, *, after: str, limit: int
    ) -> list[Hit]:
        """Up to `limit` users, the newest first, that come after the row key `after`."""
        suffix = f"-{tenant_id}" if tenant_id else ""
        rows = [
            self._hits("newest", f"newest-{status}{suffix}", after=after, below="", limit=limit)
            for status in statuses
        ]
        return _first(limit, rows)

    def by_text(self, statuses: Iterable[Status], prefix: str, *, after: str, limit: int) -> list[Hit]:
        """Up to `limit` users whose name or user name starts with `prefix`, in the order of that text.

        Somebody whose name and user name both do is found twice.
        """
        start = index_text(prefix)
        below = start + "\uffff" if start else ""
        kinds: tuple[Literal["name", "username"], ...] = ("name", "username") if start else ("name",)
        rows = [
            self._hits(kind, f"{kind}-{status}", after=max(after, start), below=below, limit=limit)
            for status in statuses
            for kind in kinds
        ]
        return _first(limit, rows)

    def is_built(self) -> bool:
        """Whether every user who was there before this index has been put into it."""
        return self._table.find("meta", "built") is not None

    def note_built(self) -> None:
        self._table.put({"PartitionKey": "meta", "RowKey": "built"})

    def all_keys(self) -> Iterator[tuple[str, str, UserId]]:
        """Every index row: partition, row key, and the user it leads to."""
        for row in self._table.all():
            if row["PartitionKey"] != "meta":
                user_id = UserId.parse(row["TenantId"], row["ObjectId"])
                yield str(row["PartitionKey"]), str(row["RowKey"]), user_id

    def _hits(
        self,
        kind: Literal["newest", "name", "username"],
        partition: str,
        *,
        after: str,
        below: str,
        limit: int,
    ) -> list[Hit]:
        rows = self._table.range(partition, after=after, below=below, limit=limit)
        return [Hit(str(row["RowKey"]), kind, UserId.parse(row["TenantId"], row["ObjectId"])) for row in rows]


def index_keys(identity: Identity) -> IndexKeys:
    """The keys of all index rows that should lead to this user."""
    user_id, status = identity.user_id, status_of(identity)
    person = f"{user_id.object_id}_{user_id.tenant_id}"
    newest = f"{LAST_MILLISECOND - int(identity.created_at.timestamp() * 1000):015d}_{person}"
    keys = [
        (f"newest-{status}", newest),
        (f"newest-{status}-{user_id.tenant_id}", newest),
        (f"name-{status}", f"{index_text(identity.name)}|{person}"),
        (f"username-{status}", f"{index_text(identity.username)}|{person}"),
    ]
    if identity.acs_user_id:
        keys.append((f"acs-{identity.acs_user_id}", "user"))
    return tuple(keys)


def status_of(identity: Identity) -> Status:
    return "blocked" if identity.blocked else "active"


def plain_text(text: str) -> str:
    """The text in small letters without accents, as people expect searches to compare it."""
    # Twice: decomposing brings capitals back (of stage letters, say), and folding can compose.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return plain.translate(UNDECOMPOSED).strip()


def index_text(text: str) -> str:
    """The beginning of `plain_text` as it may stand in a key, where not all characters may."""
    return "".join(
        character if character.isalnum() or character in " .@-'" else "_"
        for character in plain_text(text)[:LONGEST_TEXT]
    )


def _first(limit: int, sorted_hits: list[list[Hit]]) -> list[Hit]:
    hits: list[Hit] = []
    for hit in merge(*sorted_hits, key=lambda hit: hit.row_key):
        # A user who is being blocked stands in two partitions for a moment, under the same key.
        if not (hits and hits[-1].row_key == hit.row_key and hits[-1].kind == hit.kind):
            hits.append(hit)
    return hits[:limit]
