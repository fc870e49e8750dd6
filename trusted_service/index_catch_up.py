"""Finds what the index of users does not say yet, and lets it say that.

One process at a time changes the index, under a lease; doing it again changes nothing.
"""

import itertools
import secrets
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from trusted_service.errors import UpstreamError
from trusted_service.models import Identity, UserId
from trusted_service.storage.identities import PARTS, IdentityTable
from trusted_service.storage.user_entry import Entry, Key
from trusted_service.storage.user_index import Changed, Upkeep, UserIndex

OVERLAP = timedelta(seconds=5)
"""How far apart the clocks of the storage's servers may be, with the time that a write takes."""
MANY = 100
SEEN_TOGETHER, CHANGED_TOGETHER = 1000, 5000
LEASE_SECONDS = 30.0


class LeaseTaken(Exception):
    """Another process changes the index right now."""


class NotWritten(Exception):
    """The index could not be written: lists are answered without it."""

    def __init__(self, cause: UpstreamError) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How many rows a look has read, and how many of them the index does not say.

    It ends where these are many.
    """

    rows: int
    missing: int

    @property
    def finds_many(self) -> bool:
        return self.missing >= MANY


class CatchUp:
    def __init__(self, identities: IdentityTable, index: UserIndex) -> None:
        self._identities = identities
        self._index = index
        self._owner = secrets.token_hex(8)

    def look(self, upkeep: Upkeep) -> Look:
        """See whether anybody wrote what the index does not say. Only reads."""
        rows = missing = 0
        for identities in self._chunks(upkeep, SEEN_TOGETHER):
            known = self._index.entries(identity.user_id for identity in identities)
            missing += sum(known.get(one.user_id) != Entry.of(one) or not one.dated for one in identities)
            rows += len(identities)
            if missing >= MANY:
                break
        if rows and not missing:
            # So that the same rows are not read again. Nothing else depends on it.
            self._index.move_mark(upkeep.now)
        return Look(rows=rows, missing=missing)

    def run(self, *, look: bool) -> None:
        """Let the index say what is true of whoever is noted and, with `look`, of whoever was written.

        Raises LeaseTaken, NotWritten, and UpstreamError where `identities` cannot be read.
        """
        self._hold_lease()
        try:
            upkeep = self._index.upkeep()
            while upkeep.changed:
                self._apply_changed(upkeep.changed)
                self._hold_lease()
                upkeep = self._index.upkeep()
            if look or upkeep.mark is None:
                self._apply_all(upkeep)
        finally:
            with _writing():
                self._index.give_lease_back(self._owner)

    def _apply_changed(self, changed: list[Changed]) -> None:
        """Let the index say what is true of these users, whatever it said, and settle that."""
        identities = {one.user_id: self._identities.find(one.user_id) for one in changed}
        entries = {
            user_id: None if identity is None else Entry.of(identity)
            for user_id, identity in identities.items()
        }
        stale = frozenset[Key]().union(*(one.stale for one in changed))
        with _writing():
            self._index.apply(entries, stale=stale, mend=True)
            self._index.settle(changed)

    def _apply_all(self, upkeep: Upkeep) -> None:
        """Let the index say what is true of whoever was written since the mark, or of everybody."""
        last: UserId | None = None
        for identities in self._chunks(upkeep, CHANGED_TOGETHER):
            self._hold_lease()
            entries: dict[UserId, Entry | None] = {one.user_id: Entry.of(one) for one in identities}
            if upkeep.mark is None:
                end = identities[-1].user_id
                entries |= dict.fromkeys(self._gone(last, end, entries.keys()))
                last = end
            with _writing():
                self._index.apply(entries, mend=upkeep.mark is None)
                for undated in (one for one in identities if not one.dated):
                    self._identities.date(undated)
        with _writing():
            if upkeep.mark is None:
                self._index.apply(dict.fromkeys(self._gone(last, None, ())))
            self._index.set_mark(upkeep.now)

    def _gone(self, after: UserId | None, end: UserId | None, present: Container[UserId]) -> list[UserId]:
        """Users of this range whom the index knows, though they have no row."""
        known = itertools.takewhile(
            lambda one: end is None or _order(one) <= _order(end), self._index.known(after)
        )
        return [one for one in known if one not in present and self._identities.find(one) is None]

    def _chunks(self, upkeep: Upkeep, size: int) -> Iterator[list[Identity]]:
        identities: Iterator[Identity]
        if upkeep.mark is None:
            identities = itertools.chain.from_iterable(map(self._identities.part, PARTS))
        else:
            identities = self._identities.changed_since(upkeep.mark - OVERLAP)
        while chunk := list(itertools.islice(identities, size)):
            yield chunk

    def _hold_lease(self) -> None:
        with _writing():
            held = self._index.take_lease(self._owner, LEASE_SECONDS)
        if not held:
            raise LeaseTaken


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except UpstreamError as error:
        raise NotWritten(error) from error


def _order(user_id: UserId) -> tuple[str, str]:
    """Rows of `identities` come in this order."""
    return user_id.object_id, user_id.tenant_id
