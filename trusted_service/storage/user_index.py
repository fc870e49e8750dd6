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
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from itertools import groupby
from typing import Literal, Self

from trusted_service.models import Identity, UserId
from trusted_service.storage.ordered_lists import OrderedLists
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, utc

Status = Literal["active", "blocked"]
STATUSES: tuple[Status, ...] = ("active", "blocked")
Key = tuple[str, str]
"""The name of a list, and a key in it."""

LONGEST_TEXT = 100
LAST_MILLISECOND = 10**14  # in the year 5138: what is taken from it makes newer rows come first
UPKEEP, MARK, LEASE, CHANGED = "upkeep", "1-mark", "2-lease", "3-changed|"
MOST_CHANGED = 500
"""Users of whom one look tells that they have changed."""
USERS = "users"
ACS_USER_ID = re.compile(r"8:[a-z-]*acs:[A-Za-z0-9_-]{1,200}")
UNDECOMPOSED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}  # noqa: RUF001
)
"""Letters that Unicode does not take for others with a mark, though people who search do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of a user; `acs_user_id` is empty where there is none."""

    user_id: UserId
    status: Status
    newest: str
    name: str
    username: str
    acs_user_id: str

    @classmethod
    def of(cls, identity: Identity) -> Self:
        acs_user_id = identity.acs_user_id or ""
        return cls(
            user_id=identity.user_id,
            status=status_of(identity),
            newest=newest_text(identity),
            name=index_text(identity.name),
            username=index_text(identity.username),
            acs_user_id=acs_user_id if ACS_USER_ID.fullmatch(acs_user_id) else "",
        )

    @classmethod
    def load(cls, person: str, value: str) -> Self:
        status, newest, name, username, acs_user_id = value.split(">")
        return cls(
            _user_id(person),
            "blocked" if status == "blocked" else "active",
            newest,
            name,
            username,
            acs_user_id,
        )

    def dump(self) -> str:
        return ">".join((self.status, self.newest, self.name, self.username, self.acs_user_id))

    @property
    def person(self) -> str:
        return _person(self.user_id)

    def places(self) -> set[Key]:
        """All keys that should lead to this user."""
        keys = {
            (f"newest-{self.status}", f"{self.newest} {self.person}"),
            (f"text-{self.status}", _text_key(self.name, self.user_id, "name")),
            (f"text-{self.status}", _text_key(self.username, self.user_id, "username")),
        }
        if self.acs_user_id:
            keys.add(("acs", f"{self.acs_user_id} {self.person}"))
        return keys


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
        found = self._lists.find(USERS, [_person(user_id) for user_id in user_ids])
        return {_user_id(person): Entry.load(person, value) for person, value in found.items()}

    def known(self, after: UserId | None) -> Iterator[UserId]:
        """Every user the index knows, in the order of object ids, beyond this one."""
        for person, _ in self._lists.read(USERS, after="" if after is None else _person(after), blocks=20):
            yield _user_id(person)

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
        gone = [_person(user_id) for user_id, entry in users.items() if entry is None]
        self._lists.change(USERS, entries, gone)

    def note_changed(self, user_id: UserId, stale: Collection[Key] = ()) -> None:
        """Note that the user has changed, and which keys lead to them wrongly. One call to the storage."""
        row_key = CHANGED + _person(user_id)
        self._table.put({"PartitionKey": UPKEEP, "RowKey": row_key, "Stale": json.dumps(sorted(stale))})

    def settle(self, changed: Collection[Changed]) -> None:
        """Take back what was noted of users who are right now, unless they have changed again."""
        for one in changed:
            try:
                self._table.delete(UPKEEP, CHANGED + _person(one.user_id), version=one.version)
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
            yield (name, key), _user_id(key) if name == USERS else user_of(key)

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


def newest_key(identity: Identity) -> str:
    """The key of the user in the lists of the newest."""
    return f"{newest_text(identity)} {_person(identity.user_id)}"


def name_key(identity: Identity) -> str:
    """The key of the user in the lists of texts, by their name."""
    return _text_key(index_text(identity.name), identity.user_id, "name")


def username_key(identity: Identity) -> str:
    """The same by their user name."""
    return _text_key(index_text(identity.username), identity.user_id, "username")


def newest_text(identity: Identity) -> str:
    """A number that is the smaller, the later the user came."""
    return f"{LAST_MILLISECOND - int(identity.created_at.timestamp() * 1000):015d}"


def text_start(text: str) -> str:
    """How the keys of `text` lists begin. With a letter: some stores drop the space of an empty text."""
    return f"t{text}"


def user_of(key: str) -> UserId:
    """The user to whom a key of any list but `users` leads."""
    person = key.rpartition(" ")[2]
    return _user_id(person.removesuffix("|name").removesuffix("|username"))


def status_of(identity: Identity) -> Status:
    return "blocked" if identity.blocked else "active"


def plain_text(text: str) -> str:
    """The text in small letters without accents, as people expect searches to compare it."""
    # Twice: decomposing brings capitals back (of stage letters, say), and folding can compose.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return plain.translate(UNDECOMPOSED).strip()


def index_text(text: str) -> str:
    """The beginning of `plain_text` as it may stand in a key, where not all characters may.

    Spaces become `!`, so that a space can end the text and shorter names come before longer ones. No
    characters beyond U+FFFF: there the order of the storage (by UTF-16) is not that of Python.
    """
    return "".join(
        "!"
        if character == " "
        else character
        if (character.isalnum() and character <= "\uffff") or character in ".@-'"
        else "_"
        for character in plain_text(text)[:LONGEST_TEXT]
    )


def _text_key(text: str, user_id: UserId, kind: Literal["name", "username"]) -> str:
    return f"{text_start(text)} {_person(user_id)}|{kind}"


def _person(user_id: UserId) -> str:
    return f"{user_id.object_id}|{user_id.tenant_id}"


def _user_id(person: str) -> UserId:
    object_id, _, tenant_id = person.partition("|")
    return UserId(tenant_id, object_id)


def _changed(row: Row) -> Changed:
    stale = frozenset((name, key) for name, key in json.loads(row.get("Stale") or "[]"))
    user_id = _user_id(str(row["RowKey"]).removeprefix(CHANGED))
    return Changed(user_id, stale, str(row.metadata["etag"]))
