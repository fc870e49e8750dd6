"""Background tasks: those after a response are best effort; delayed and periodic ones are never dropped."""

import contextlib
import random
import sched
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import structlog

from trusted_service.errors import UpstreamError, UpstreamThrottled

log = structlog.get_logger(__name__)

Task = Callable[..., object]

THREADS, MAX_PENDING = 6, 1000
TIMED_THREADS = 12  # more than there are periodic tasks, each of which may run for long
CLOSE_SECONDS = 4.0
JITTER = 0.2
"""The share by which the period of a periodic task varies, so that instances do not run it in step."""


class BackgroundTasks:
    """One for each process. Its threads start with the first task, so never before a fork."""

    def __init__(self) -> None:
        self.closed = False  # a long task should stop at its next step once it is true
        self._end = float("inf")
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="background")
        self._pending = threading.BoundedSemaphore(MAX_PENDING)
        self._timed_pool = ThreadPoolExecutor(TIMED_THREADS, thread_name_prefix="timed")
        self._running: set[Future[None]] = set()
        self._delayed = sched.scheduler()
        self._changed = threading.Condition()
        self._timer: threading.Thread | None = None

    def run(self, task: Task) -> None:
        """Run the task as soon as a thread is free, and log its exceptions; drop it if MAX_PENDING wait."""
        if not self._pending.acquire(blocking=False):
            log.error("background_task_dropped")
            return
        with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
            self._pool.submit(_run, task).add_done_callback(lambda _: self._pending.release())

    def run_after(
        self, seconds: float, task: Task, *, retries: Sequence[float], failed: Task, early: bool = True
    ) -> None:
        """Run the task in `seconds` from now and, while an upstream fails, again after each of `retries`.

        Throttling uses up no retry, so no task is lost to it. `failed` logs `reason` and `retries_left`.
        `close` runs the task if it may run `early`.
        """

        def attempt() -> None:
            if self.closed and not (early and time.monotonic() < self._end):
                failed(reason="the process has ended", retries_left=0)
                return
            try:
                task()
            except UpstreamError as error:
                left = (error.pause, *retries) if isinstance(error, UpstreamThrottled) else retries
                left = () if self.closed else left
                failed(reason=error.reason, retries_left=len(left))
                if left:
                    self.run_after(left[0], task, retries=left[1:], failed=failed, early=early)

        self._schedule(seconds, attempt)

    def run_every(self, seconds: float, task: Task, *, first_after: float = 0.0) -> None:
        """Run the task about every `seconds`, counted from the end of a run, until `close`."""

        def repeat() -> None:
            if self.closed:
                return
            try:
                task()
            finally:
                jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 # nosec B311 # no secret
                self._schedule(seconds * jitter, repeat)

        self._schedule(first_after, repeat)

    def is_idle(self) -> bool:
        """Whether no delayed or periodic task is due or running."""
        with self._changed:
            due = any(event.time <= time.monotonic() for event in self._delayed.queue)
            return not due and not self._running

    def close(self) -> None:
        """Run the delayed tasks that remain, as many as start within CLOSE_SECONDS, and no periodic ones."""
        with self._changed:
            self.closed, self._end = True, time.monotonic() + CLOSE_SECONDS
            events = self._delayed.queue
            for event in events:
                self._delayed.cancel(event)
        wait([self._timed_pool.submit(_run, *event.argument) for event in events], CLOSE_SECONDS)

    def _schedule(self, seconds: float, task: Task) -> None:
        with self._changed:
            self._delayed.enter(0.0 if self.closed else seconds, 0, self._run_timed, (task,))
            if self._timer is None:
                self._timer = threading.Thread(target=self._run_timer, name="timer", daemon=True)
                self._timer.start()
            self._changed.notify()

    def _run_timer(self) -> None:
        with self._changed:
            while True:
                self._changed.wait(self._delayed.run(blocking=False))

    def _run_timed(self, task: Task) -> None:
        with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
            future = self._timed_pool.submit(_run, task)
            self._running.add(future)
            future.add_done_callback(self._running.discard)


def _run(task: Task) -> None:
    try:
        task()
    except UpstreamError as error:
        log.warning("background_task_failed", reason=str(error))
    except Exception as error:
        log.error("background_task_failed", exc_info=error)
