"""Best-effort background tasks: a later request or run makes up for what is lost with the process."""

import contextlib
import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from trusted_service.errors import UpstreamError

log = structlog.get_logger(__name__)

Task = Callable[[], object]

THREADS, MAX_PENDING = 6, 1000
JITTER = 0.2
"""The share by which the period of a periodic task varies, so that instances do not run it in step."""


class BackgroundTasks:
    """One for each process. Its threads start with the first task, so never before a fork."""

    def __init__(self) -> None:
        self.closed = False
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="background")
        self._pending = threading.BoundedSemaphore(MAX_PENDING)
        self._delayed: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._timer: threading.Thread | None = None

    def run(self, task: Task) -> None:
        """Run the task as soon as a thread is free, and log its exceptions; drop it if MAX_PENDING wait."""
        if not self._pending.acquire(blocking=False):
            log.error("background_task_dropped")
            return
        with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
            self._pool.submit(self._run, task)

    def run_after(self, seconds: float, task: Task) -> None:
        """Run the task once, in `seconds` from now."""
        with self._changed:
            heapq.heappush(self._delayed, (time.monotonic() + seconds, next(self._numbers), task))
            if self._timer is None:
                self._timer = threading.Thread(target=self._run_delayed, name="timer", daemon=True)
                self._timer.start()
            self._changed.notify()

    def run_every(self, seconds: float, task: Task, *, first_after: float = 0.0) -> None:
        """Run the task about every `seconds`, counted from the end of a run, until `close`."""

        def repeat() -> None:
            try:
                if not self.closed:
                    task()
            finally:
                if not self.closed:
                    jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 # nosec B311 # no secret
                    self.run_after(seconds * jitter, repeat)

        self.run_after(first_after, repeat)

    def close(self) -> None:
        """Start no further run of periodic tasks. A long task should stop at its next step once `closed`."""
        self.closed = True

    def _run(self, task: Task) -> None:
        try:
            task()
        except UpstreamError as error:
            log.warning("background_task_failed", reason=str(error))
        except Exception as error:
            log.error("background_task_failed", exc_info=error)
        finally:
            self._pending.release()

    def _run_delayed(self) -> None:
        while True:
            with self._changed:
                while not self._delayed or self._delayed[0][0] > time.monotonic():
                    self._changed.wait(self._delayed[0][0] - time.monotonic() if self._delayed else None)
                _, _, task = heapq.heappop(self._delayed)
            self.run(task)
