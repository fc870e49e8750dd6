"""Things that nobody waits for: after the answer, or in a while.

A few threads do them, so that a slow upstream holds up no request. What waits here is lost when the
process is killed, so only what the log or the next request makes up for may wait.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from trusted_service.errors import UpstreamError

log = structlog.get_logger(__name__)

Action = Callable[[], None]

THREADS = 4
MOST_WAITING = 1000


class Later:
    """Does actions in other threads. They are started by the first one, so never before a fork."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="later")
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)
        self._timed: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._clock: threading.Thread | None = None

    def do(self, action: Action) -> None:
        """Do it as soon as a thread is free. What it raises is logged, and ends nothing but itself.

        With too much waiting already it is dropped: then the storage is down, or far too slow.
        """
        if not self._waiting.acquire(blocking=False):
            log.error("later_dropped")
            return
        self._pool.submit(self._run, action)

    def start(self, action: Action) -> Future[None]:
        """The same for what must not be dropped, and whose end can be waited for."""
        self._waiting.acquire()
        return self._pool.submit(self._run, action)

    def do_in(self, seconds: float, action: Action) -> None:
        """Do it in `seconds` from now."""
        with self._changed:
            heapq.heappush(self._timed, (time.monotonic() + seconds, next(self._numbers), action))
            if self._clock is None:
                self._clock = threading.Thread(target=self._watch_clock, name="later-clock", daemon=True)
                self._clock.start()
            self._changed.notify()

    def _run(self, action: Action) -> None:
        try:
            action()
        except UpstreamError as error:
            log.warning("later_failed", reason=str(error))
        except Exception as error:
            log.error("later_failed", exc_info=error)
        finally:
            self._waiting.release()

    def _watch_clock(self) -> None:
        while True:
            with self._changed:
                while not self._timed or self._timed[0][0] > time.monotonic():
                    self._changed.wait(self._timed[0][0] - time.monotonic() if self._timed else None)
                _, _, action = heapq.heappop(self._timed)
            self.do(action)
