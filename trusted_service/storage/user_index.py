"""The table `userindex`: lists that only help to find users, in an order or by what they are called.

A key of a list leads to one user, and what a search finds is read from `identities` and checked
against it, so a stale key here shows nobody anything wrong. The lists (`ordered_lists`) are:

- `newest-active`, `newest-blocked`: by the time of creation, the newest first
- `text-active`, `text-blocked`: by name and by user name, in small letters without accents
- `acs`: by ACS user id
- `users`: by object id, with what the other lists say of the user, so that it can be taken back

Beside them, in the partition `upkeep`: `mark`, the time up to which the index knows of everything that
was written to `identities`; `lease`, whose holder alone may change the lists; and a row for each user
who has changed since, of whom the next holder sees to it that the lists are right.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from itertools import groupby

from trusted_service.models import UserId
from trusted_service.storage.ordered_lists import OrderedLists
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, utc
from trusted_service.storage.user_entry import (
    Entry,
    Key,
    Status,
    index_text,
    person_of,
    text_start,
    user_of,
    user_of_person,
)

UPKEEP, MARK, LEASE, CHANGED = "upkeep", "1-mark", "2-lease", "3-changed|"
MOST_CHANGED = 500
"""Users of whom one look tells that they have changed."""
USERS = "users"


@dataclass(frozen=True, slots=True)
class Changed:
    """A user who has changed, and keys that are known to lead to them wrongly; `version` is the row's."""

    user_id: UserId
    stale: frozenset[Key]
    version: str


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What is left to do. `mark` is None where the index was never built; `now` is the storage's clock."""

    mark: datetime | None
    now: datetime
    changed: list[Changed]


class UserIndex:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._lists = OrderedLists(table)

    def newest(self, statuses: Iterable[Status], *, after: str) -> Iterator[Key]:
        """The keys of users, the newest first, beyond the key `after`; read as they are taken."""
        return self._merged([f"newest-{status}" for status in statuses], after)

    def by_text(self, statuses: Iterable[Status], prefix: str, *, after: str) -> Iterator[Key]:
        """The keys of users whose name or user name starts with `prefix`, in the order of that text.

        Somebody whose name and user name both do is found twice.
        """
        start = text_start(index_text(prefix))
        # Nothing sorts between a text and what begins with it, so its own place is where these begin.
        for name, key in self._merged([f"text-{status}" for status in statuses], max(after, start)):
            if not key.startswith(start):
                return
            yield name, key

    def find_by_acs_user_id(self, acs_user_id: str) -> list[UserId]:
        """The users who have, or had, this identity."""
        found = []
        for key, _ in self._lists.read("acs", after=f"{acs_user_id} "):
            if not key.startswith(f"{acs_user_id} "):
                break
            found.append(user_of(key))
        return found

    def entries(self, user_ids: Iterable[UserId]) -> dict[UserId, Entry]:
        """What the index says of those of these users whom it knows."""
        found = self._lists.find(USERS, [person_of(user_id) for user_id in user_ids])
        return {user_of_person(person): Entry.load(person, value) for person, value in found.items()}

    def known(self, after: UserId | None) -> Iterator[UserId]:
        """Every user the index knows, in the order of object ids, beyond this one."""
        for person, _ in self._lists.read(USERS, after="" if after is None else person_of(after), blocks=20):
            yield user_of_person(person)

    def apply(
        self, users: Mapping[UserId, Entry | None], *, stale: Collection[Key] = (), mend: bool = False
    ) -> None:
        """Let the index say this of these users, and nothing of those of whom it is None.

        Only the holder of the lease may. Keys that are there already are not written, and with `mend`
        not believed to be there either. A crash in between leaves what the next call for them sets right.
        """
        known = self.entries(users)
        put: set[Key] = set()
        remove: set[Key] = set(stale)
        for user_id, entry in users.items():
            old = known.get(user_id)
            is_, was = entry.places() if entry else set(), old.places() if old else set()
            put |= is_ if mend else is_ - was
            remove |= was
            remove -= is_
        # New keys first: for a moment there are too many of them, which does no harm, and never too few.
        self._change(put, put=True)
        self._change(remove, put=False)
        entries = {entry.person: entry.dump() for entry in users.values() if entry is not None}
        gone = [person_of(user_id) for user_id, entry in users.items() if entry is None]
        self._lists.change(USERS, entries, gone)

    def note_changed(self, user_id: UserId, stale: Collection[Key] = ()) -> None:
        """Note that the user has changed, and which keys lead to them wrongly. One call to the storage."""
        row_key = CHANGED + person_of(user_id)
        self._table.put({"PartitionKey": UPKEEP, "RowKey": row_key, "Stale": json.dumps(sorted(stale))})

    def settle(self, changed: Collection[Changed]) -> None:
        """Take back what was noted of users who are right now, unless they have changed again."""
        for one in changed:
            try:
                self._table.delete(UPKEEP, CHANGED + person_of(one.user_id), version=one.version)
            except RowChanged:
                continue

    def upkeep(self) -> Upkeep:
        mark, now = self._table.clock(UPKEEP, MARK)
        rows = self._table.range(UPKEEP, after=CHANGED, limit=MOST_CHANGED)
        return Upkeep(None if mark is None else utc(mark["Until"]), now, [_changed(row) for row in rows])

    def set_mark(self, until: datetime) -> None:
        self._table.put({"PartitionKey": UPKEEP, "RowKey": MARK, "Until": until})

    def move_mark(self, until: datetime) -> None:
        """The same where there is a mark: an index that was lost a moment ago must not look complete."""
        with contextlib.suppress(RowChanged):
            self._table.merge({"PartitionKey": UPKEEP, "RowKey": MARK, "Until": until})

    def take_lease(self, owner: str, seconds: float) -> bool:
        """Take or renew the lease; False where somebody else holds it."""
        row, now = self._table.clock(UPKEEP, LEASE)
        lease = {
            "PartitionKey": UPKEEP,
            "RowKey": LEASE,
            "Owner": owner,
            "Until": now + timedelta(seconds=seconds),
        }
        try:
            if row is None:
                self._table.insert(lease)
            elif row["Owner"] in (owner, "") or utc(row["Until"]) < now:
                self._table.replace(lease, version=str(row.metadata["etag"]))
            else:
                return False
        except (RowExists, RowChanged):
            return False
        return True

    def give_lease_back(self, owner: str) -> None:
        """Let others have the lease, unless somebody else has it by now."""
        row, now = self._table.clock(UPKEEP, LEASE)
        if row is not None and row["Owner"] == owner:
            free = {"PartitionKey": UPKEEP, "RowKey": LEASE, "Owner": "", "Until": now}
            with contextlib.suppress(RowChanged):
                self._table.replace(free, version=str(row.metadata["etag"]))

    def all_keys(self) -> Iterator[tuple[Key, UserId]]:
        """Every key of every list, with the user it leads to."""
        for name, key, _ in self._lists.all():
            yield (name, key), user_of_person(key) if name == USERS else user_of(key)

    def _merged(self, names: list[str], after: str) -> Iterator[Key]:
        def keys(name: str) -> Iterator[Key]:
            return ((name, key) for key, _ in self._lists.read(name, after=after))

        merged = merge(*map(keys, names), key=lambda found: found[1])
        # A user who is being blocked stands in two lists for a moment, under the same key.
        return (next(same) for _, same in groupby(merged, key=lambda found: found[1]))

    def _change(self, keys: Iterable[Key], *, put: bool) -> None:
        for name, group in groupby(sorted(keys), key=lambda key: key[0]):
            these = [key for _, key in group]
            self._lists.change(name, dict.fromkeys(these, ""), ()) if put else self._lists.change(
                name, {}, these
            )


def _changed(row: Row) -> Changed:
    stale = frozenset((name, key) for name, key in json.loads(row.get("Stale") or "[]"))
    user_id = user_of_person(str(row["RowKey"]).removeprefix(CHANGED))
    return Changed(user_id, stale, str(row.metadata["etag"]))
