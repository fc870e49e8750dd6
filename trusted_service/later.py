"""Things to do in a while, by one thread of the process: a second try, a last sweep.

What waits here is lost when the process ends, so only what is already in the log may wait.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

Action = Callable[[], None]


class Later:
    """Does actions when they are due. The thread is started by the first one, so never before a fork."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def do(self, action: Action, *, seconds: float) -> None:
        """Do it in `seconds` from now. What it raises is logged, and ends nothing but itself."""
        with self._changed:
            heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._numbers), action))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="later", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or self._waiting[0][0] > time.monotonic():
                    self._changed.wait(self._waiting[0][0] - time.monotonic() if self._waiting else None)
                _, _, action = heapq.heappop(self._waiting)
            try:
                action()
            except Exception as error:
                log.error("later_failed", exc_info=error)
