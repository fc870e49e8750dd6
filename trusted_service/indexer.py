"""Keeps the index of users in step with the table `identities`, whoever writes there.

What this service changes it notes for the index, one row for each user. What other programs write is
found by the time that the storage puts on each row: a look for rows that were written since the last
look. The storage reads the whole table for that, so a look that takes long is not repeated soon. Both
are done when somebody wants to see a list, and now and then without that. One process at a time
changes the index, under a lease; doing it again changes nothing.
"""

import contextlib
import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import structlog

from trusted_service.errors import UpstreamError
from trusted_service.models import Identity, UserId
from trusted_service.storage.identities import PARTS, IdentityTable
from trusted_service.storage.user_index import Changed, Entry, Key, Upkeep, UserIndex

log = structlog.get_logger(__name__)

OVERLAP = timedelta(seconds=5)
"""How far apart the clocks of the storage's servers may be, with the time that a write takes."""
REST = 20
"""How many times as long as a look took we wait before the next one, beyond looks that cost little."""
LITTLE_SECONDS = 0.025
LOOKS = 6
"""The quickest of so many looks tells what one costs: others had to wait for something else."""
FEW_ROWS = 200
"""A look that found more says little about what one costs that finds nothing."""
TOGETHER = 5000
LEASE_SECONDS = 60.0
AGAIN_SECONDS = 0.1
GATHER_SECONDS, PATIENCE_SECONDS = 0.2, 30.0


class _LeaseTaken(Exception):
    """Another process changes the index right now."""


class _NotWritten(Exception):
    """The index could not be written: lists are answered without it."""

    def __init__(self, cause: UpstreamError) -> None:
        super().__init__(cause)
        self.cause = cause


State = Literal["current", "behind", "missing"]
"""What the index knows: everybody; maybe not who was written just now; or not even most of them."""


@dataclass(eq=False, slots=True)
class _Work:
    """One run, in a thread of its own, for lists that began at `since`."""

    since: float
    began: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)
    state: State = "behind"
    failure: UpstreamError | None = None

    def answers(self, asked: float, since: float) -> bool:
        return self.state == "current" and self.began >= asked and self.since >= since


class Indexer:
    """One for each process. Threads start when there is something to do, so never before a fork."""

    def __init__(self, identities: IdentityTable, index: UserIndex) -> None:
        self._identities = identities
        self._index = index
        self._owner = secrets.token_hex(8)
        self._lock = threading.Lock()
        # The lease is the process's: it keeps other processes away, and this its other threads.
        self._running = threading.Lock()
        self._work: _Work | None = None
        self._helper: threading.Thread | None = None
        self._wanted = 0.0
        self._looked = self._look_at = float("-inf")
        self._costs: deque[float] = deque(maxlen=LOOKS)

    def note_changed(self, user_id: UserId, stale: Iterable[Key] = ()) -> None:
        """Note that the user has changed: comes after the change, and may come again."""
        self._index.note_changed(user_id, list(stale))

    def start(self) -> None:
        """Bring the index up to date in the background, for all who ask within a moment at once."""
        with self._lock:
            self._wanted = time.monotonic()
            if self._helper is None:
                helper = threading.Thread(target=self._help, name="index-soon", daemon=True)
                helper.start()
                self._helper = helper

    def bring_up_to_date(self, seconds: float, since: float | None = None) -> State:
        """Return what the index is known to say of all that was written until `since`, or until now.

        `since` is a time of the clock, in seconds since 1970, which may be another instance's. Takes
        `seconds` at most, then goes on in the background. Raises UpstreamError where `identities` cannot
        be read.
        """
        asked, since = time.monotonic(), time.time() if since is None else since
        while True:
            work = self._start_or_join(asked, since)
            work.over.wait(max(0.0, asked + seconds - time.monotonic()))
            if not work.over.is_set():
                return work.state
            if work.began >= asked and work.since >= since:
                if work.failure is not None:
                    raise work.failure
                if work.state == "current" or time.monotonic() + AGAIN_SECONDS > asked + seconds:
                    return work.state
                time.sleep(AGAIN_SECONDS)

    def run(self) -> bool:
        """Bring the index up to date; False where another process is at it, or it could not be written.

        Raises UpstreamError where `identities` cannot be read.
        """
        work = _Work(time.time())
        self._run(work)
        return work.state == "current"

    def _run(self, work: _Work) -> None:
        with self._running:
            self._run_alone(work)

    def _run_alone(self, work: _Work) -> None:
        began, upkeep = time.time(), self._index.upkeep()
        look = upkeep.mark is None or (self._looked < work.since and time.monotonic() >= self._look_at)
        behind = bool(upkeep.changed)
        if upkeep.mark is None:
            work.state, behind = "missing", True
        elif look and (misses := self._count_missing(upkeep)):
            # Of the rows that were written, the first ones tell whether these are many.
            work.state, behind = "missing" if misses == FEW_ROWS else "behind", True
        if behind and not self._try_to_catch_up(look=look):
            return
        work.state = "current"
        if look:
            self._looked = began

    def _try_to_catch_up(self, *, look: bool) -> bool:
        try:
            self._catch_up(look=look)
        except _LeaseTaken:
            return False
        except _NotWritten as error:
            log.error("index_not_written", reason=str(error.cause))
            return False
        return True

    def _help(self) -> None:
        while True:
            time.sleep(GATHER_SECONDS)
            began = time.monotonic()
            with contextlib.suppress(UpstreamError):
                self.bring_up_to_date(PATIENCE_SECONDS)
            with self._lock:
                if self._wanted < began:
                    self._helper = None
                    return

    def _start_or_join(self, asked: float, since: float) -> _Work:
        """The work that is under way, or new one."""
        with self._lock:
            work = self._work
            if work is None or (work.over.is_set() and not work.answers(asked, since)):
                work = _Work(since)
                threading.Thread(target=self._do, args=(work,), name="index", daemon=True).start()
                self._work = work
            return work

    def _do(self, work: _Work) -> None:
        try:
            self._run(work)
        except UpstreamError as error:
            log.warning("index_not_updated", reason=str(error))
            work.failure = error
        except Exception as error:
            log.error("index_not_updated", exc_info=error)
        finally:
            work.over.set()

    def _count_missing(self, upkeep: Upkeep) -> int:
        """Return of how many rows the index does not know, among the first ones that tell. Only reads."""
        begin, rows = time.monotonic(), 0
        for identities in self._chunks(upkeep, FEW_ROWS):
            known = self._index.entries(identity.user_id for identity in identities)
            if missing := sum(known.get(one.user_id) != Entry.of(one) or not one.dated for one in identities):
                return missing
            rows += len(identities)
        if rows <= FEW_ROWS:
            self._rest_after(time.monotonic() - begin)
        if rows:
            # So that the same rows are not read again. Nothing else depends on it.
            self._index.move_mark(upkeep.now)
        return 0

    def _catch_up(self, *, look: bool) -> None:
        """Raises _LeaseTaken, and _NotWritten."""
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
        for identities in self._chunks(upkeep, TOGETHER):
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
            raise _LeaseTaken

    def _rest_after(self, seconds: float) -> None:
        self._costs.append(seconds)
        if len(self._costs) == LOOKS:
            self._look_at = time.monotonic() + REST * max(0.0, min(self._costs) - LITTLE_SECONDS)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except UpstreamError as error:
        raise _NotWritten(error) from error


def _order(user_id: UserId) -> tuple[str, str]:
    """Rows of `identities` come in this order."""
    return user_id.object_id, user_id.tenant_id
