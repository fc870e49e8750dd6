"""What is done now and then without anybody asking: rows that nobody needs go, the index is kept up.

Each worker process does it, a while after its start and about every hour from then on, at no set
time, so that several instances rarely do it at once. It costs no request anything.
"""

import random
import threading
from collections.abc import Callable

import structlog

from trusted_service.errors import UpstreamError
from trusted_service.indexer import Indexer
from trusted_service.pace import Pace
from trusted_service.storage.sessions import SessionTable

log = structlog.get_logger(__name__)

FIRST_SECONDS, EVERY_SECONDS = 300.0, 3600.0
DELETED_PER_SECOND = 20.0


class Upkeep:
    """One for each process. Its thread starts by `start`, so never before a fork."""

    def __init__(self, sessions: SessionTable, indexer: Indexer) -> None:
        self._sessions = sessions
        self._indexer = indexer
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
        wait = FIRST_SECONDS
        while not self._closing.wait(wait * chance.uniform(0.5, 1.5)):
            wait = EVERY_SECONDS
            for work in (self.purge, self._indexer.run):
                if not self._closing.is_set():
                    _do(work)


def _do(work: Callable[[], object]) -> None:
    try:
        work()
    except UpstreamError as error:
        log.warning("upkeep_cut_short", reason=str(error))
    except Exception as error:
        log.error("upkeep_failed", exc_info=error)
