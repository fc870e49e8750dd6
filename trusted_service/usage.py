"""Counts what this process does, and writes the counts down behind the requests' backs.

No request waits for it, or fails by it: counting adds to numbers in memory, which a thread writes
to the storage every few seconds. What cannot be written is kept, and tried again. So a crash loses
the last FLUSH_SECONDS and no more, and a process that stops in good order loses nothing.
"""

import contextlib
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from trusted_service import upstream
from trusted_service.errors import UpstreamError
from trusted_service.storage.usage import Counts, UsageTable

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 5.0
WRITING_SECONDS = 4.0
"""The most that one attempt to write everything may take."""
KEPT = timedelta(days=1)
"""A clock that is set back comes upon an hour again, and must find its counts: they are absolute."""

TOKEN = Counts(tokens=1)
SIGN_IN = Counts(sign_ins=1)
REFUSAL = Counts(refusals=1)


def utc_now() -> datetime:
    return datetime.now(UTC)


class UsageCounter:
    """The counts of this process. Its thread is started by the first one, so never before a fork."""

    def __init__(self, table: UsageTable, now: Callable[[], datetime] = utc_now) -> None:
        self._table = table
        self._now = now
        self._counts: dict[datetime, Counts] = {}
        self._written: dict[datetime, Counts] = {}
        self._counting = threading.Lock()
        # Held while writing: an older count must not arrive after a newer one.
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = ""

    def count(self, what: Counts) -> None:
        """Add to the counts of this hour. Never fails, and never waits for the storage."""
        hour = self._now().replace(minute=0, second=0, microsecond=0)
        with self._counting:
            self._counts[hour] = self._counts.get(hour, Counts()) + what
            if self._thread is None:
                self._start()

    def flush(self) -> None:
        """Write the hours that have changed. Raises UpstreamError: what is not written yet then waits on."""
        with self._writing, upstream.request_budget(uuid.uuid4().hex, WRITING_SECONDS):
            for hour, counts in self._unwritten().items():
                self._table.put(self._process, hour, counts)
                self._written[hour] = counts
            self._forget(self._now() - KEPT)

    def close(self) -> None:
        """Write the rest, as the process ends. What cannot be written any more is in the log alone."""
        self._closing.set()
        try:
            self.flush()
        except UpstreamError as error:
            lost = {f"{hour:%Y-%m-%dT%H}": str(counts) for hour, counts in self._unwritten().items()}
            log.error("usage_lost", reason=str(error), counts=lost)

    def _start(self) -> None:
        # Here, not where this is made: after a fork, two processes must not share a name.
        self._process = self._process or uuid.uuid4().hex[:16]
        thread = threading.Thread(target=self._run, name="usage", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread to be had now: the next count tries again
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            try:
                self.flush()
            except UpstreamError as error:
                log.warning("usage_not_written", reason=str(error))
            except Exception as error:
                log.error("usage_not_written", exc_info=error)

    def _unwritten(self) -> dict[datetime, Counts]:
        with self._counting:
            return {
                hour: counts for hour, counts in self._counts.items() if self._written.get(hour) != counts
            }

    def _forget(self, before: datetime) -> None:
        with self._counting:
            for hour in [hour for hour in self._written if hour < before]:
                if self._counts[hour] == self._written[hour]:
                    del self._counts[hour], self._written[hour]
