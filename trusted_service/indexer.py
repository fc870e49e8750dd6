"""Keeps the index of users in step with the table `identities`, whoever writes there.

What this service changes it notes for the index, one row for each user. What other programs write is
found by the time that the storage puts on each row: a look for rows that were written since the last
look. The storage reads the whole table for that, so a look that takes long is not repeated soon. Both
are done (`index_catch_up`) when somebody wants to see a list, and now and then without that.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import structlog

from trusted_service.errors import UpstreamError, UpstreamUnavailable
from trusted_service.index_catch_up import CatchUp, LeaseTaken, Look, NotWritten
from trusted_service.models import UserId
from trusted_service.storage.tables import SERVICE
from trusted_service.storage.user_entry import Key
from trusted_service.storage.user_index import Upkeep, UserIndex

log = structlog.get_logger(__name__)

REST = 20
"""How many times as long as a look took we wait before the next one, beyond looks that cost little."""
LITTLE_SECONDS = 0.1
LOOKS = 6
"""The quickest of so many looks tells what one costs: others had to wait for something else."""
AGAIN_SECONDS = 0.1
GATHER_SECONDS, PATIENCE_SECONDS = 0.2, 30.0
FINISH_SECONDS, FINISH_AGAIN_SECONDS = 120.0, 1.0


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

    def __init__(self, index: UserIndex, catch_up: CatchUp) -> None:
        self._index = index
        self._catch_up = catch_up
        self._lock = threading.Lock()
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
        asked, since = time.monotonic(), time.time()
        while True:
            work = self._start_or_join(asked, since)
            work.over.wait()
            if work.began >= asked:
                if work.failure is not None:
                    raise work.failure
                return work.state == "current"

    def finish(self) -> None:
        """The same for who cannot go on without: waits for another process, or for the lease of a dead one.

        Raises UpstreamUnavailable after FINISH_SECONDS.
        """
        ends = time.monotonic() + FINISH_SECONDS
        while not self.run():
            if time.monotonic() > ends:
                raise UpstreamUnavailable(SERVICE, "the index of users could not be brought up to date")
            time.sleep(FINISH_AGAIN_SECONDS)

    def _run(self, work: _Work) -> None:
        began, upkeep = time.time(), self._index.upkeep()
        look = upkeep.mark is None or (self._looked < work.since and time.monotonic() >= self._look_at)
        behind = bool(upkeep.changed)
        if upkeep.mark is None:
            work.state, behind = "missing", True
        elif look and (found := self._look(upkeep)).missing:
            work.state, behind = "missing" if found.finds_many else "behind", True
        if behind and not self._try_to_catch_up(look=look):
            return
        work.state = "current"
        if look:
            self._looked = began

    def _look(self, upkeep: Upkeep) -> Look:
        begin = time.monotonic()
        found = self._catch_up.look(upkeep)
        # One that found rows says little about what it costs to find none.
        if not found.rows:
            self._costs.append(time.monotonic() - begin)
            if len(self._costs) == LOOKS:
                self._look_at = time.monotonic() + REST * max(0.0, min(self._costs) - LITTLE_SECONDS)
        return found

    def _try_to_catch_up(self, *, look: bool) -> bool:
        try:
            self._catch_up.run(look=look)
        except LeaseTaken:
            return False
        except NotWritten as error:
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
                # What is known to be missing is so until another run has got through.
                missing = work is not None and work.state == "missing"
                work = _Work(since, state="missing" if missing else "behind")
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
