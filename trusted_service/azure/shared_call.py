"""A call that many requests need at once: a thread of its own makes it, and few requests wait for it long."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

from trusted_service.azure import deadlines

T = TypeVar("T")

PATIENCE_SECONDS = 0.5
"""The age of a run up to which any number of requests wait for it: a healthy upstream responds by then."""
MAX_WAITERS = 8
"""Of a shared call: how many requests wait longer than that."""


class Run(Future[T]):
    """One run of a shared call."""

    def __init__(self, places: threading.BoundedSemaphore) -> None:
        super().__init__()
        self._places = places
        self._patient_until = time.monotonic() + PATIENCE_SECONDS

    def wait(self, *, in_background: bool = False) -> T:
        """The outcome of the run. Raises NotSent if the request's time, or PATIENCE_SECONDS, are over before.

        A thread in the background takes no place of those that wait longer.
        """
        left = deadlines.seconds_left()
        patience = left if in_background else min(left, self._patient_until - time.monotonic())
        if not self._ends_within(patience) and not in_background:
            with deadlines.waiting(self._places):
                self._ends_within(deadlines.seconds_left())
        if not self.done():
            raise deadlines.NotSent("no response in time")
        return self.result()

    def _ends_within(self, seconds: float) -> bool:
        return self.done() or bool(wait([self], max(0.0, seconds)).done)


class SharedCall(Generic[T]):
    """Runs `action`, once at a time, with a deadline of `seconds` and the request id of who starts it."""

    def __init__(self, action: Callable[[], T], seconds: float = deadlines.REQUEST_SECONDS) -> None:
        self._action = action
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(MAX_WAITERS)
        self._lock = threading.Lock()
        self._run: Run[T] | None = None

    def running(self) -> Run[T] | None:
        run = self._run
        return None if run is None or run.done() else run

    def start(self) -> Run[T]:
        """The run in progress, or a new one. It has a new thread, so never one from before a fork."""
        with self._lock:
            run = self.running()
            if run is None:
                run = Run(self._places)
                execute = partial(copy_context().run, self._execute, run)
                threading.Thread(target=execute, name="shared-call", daemon=True).start()
                self._run = run
            return run

    def _execute(self, run: Run[T]) -> None:
        try:
            with deadlines.request_budget(deadlines.current_request_id() or "", self._seconds):
                run.set_result(self._action())
        except BaseException as error:
            run.set_exception(error)
