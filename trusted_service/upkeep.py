"""Periodic work of each worker process: refreshes the resource pin, and purges the rows of ended sessions.

The first purge is a few minutes after the start, then about every hour at no set time, so that several
instances rarely do it at once.
"""

import random
import threading
import time
from collections.abc import Callable

import structlog

from trusted_service.errors import UpstreamError
from trusted_service.pace import Pace
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.sessions import SessionTable
from trusted_service.user_index import UserIndex

log = structlog.get_logger(__name__)

FIRST_SECONDS, EVERY_SECONDS = 300.0, 3600.0
REFRESH_SECONDS = 15.0
DELETED_PER_SECOND = 20.0


class Upkeep:
    """One for each process. Its thread starts by `start`, so never before a fork."""

    def __init__(self, sessions: SessionTable, index: UserIndex, pin: ResourcePin) -> None:
        self._sessions = sessions
        self._index = index
        self._pin = pin
        self._closing = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="upkeep", daemon=True).start()

    def close(self) -> None:
        """Begin nothing more."""
        self._closing.set()

    def purge(self) -> None:
        """Delete what is left of ended sessions. Raises UpstreamError: the next time does the rest."""
        pace, deleted = Pace(DELETED_PER_SECOND), 0
        for _ in self._sessions.purge():
            deleted += 1
            if not pace.wait(self._closing):
                break
        if deleted:
            log.info("sessions_purged", rows=deleted)

    def _watch(self) -> None:
        chance = random.SystemRandom()
        _do(self._index.require)
        purge_at = time.monotonic() + FIRST_SECONDS * chance.uniform(0.5, 1.5)
        while True:
            _do(self._pin.refresh)
            if time.monotonic() > purge_at:
                _do(self.purge)
                purge_at = time.monotonic() + EVERY_SECONDS * chance.uniform(0.5, 1.5)
            if self._closing.wait(REFRESH_SECONDS):
                return


def _do(work: Callable[[], object]) -> None:
    try:
        work()
    except UpstreamError as error:
        log.warning("upkeep_cut_short", reason=str(error))
    except Exception as error:
        log.error("upkeep_failed", exc_info=error)
