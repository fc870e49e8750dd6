"""Limits for calls to Entra ID, Table Storage and Communication Services: deadlines and a bulkhead.

`requests`, and the SDKs on top of it, bound only the wait for the next bytes, so here a call whose time is
over has its connection shut down. The bulkhead caps how many calls wait for upstreams at once, so that enough
of a worker's 64 threads (gunicorn.conf.py) stay free for `/healthz`.
"""

import functools
import math
import sched
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from socket import SHUT_RDWR, socket
from typing import get_args

from trusted_service.errors import Upstream

CALL_SECONDS = 6.0
"""Maximum for one call, including connecting, one retry where that is safe, and the whole response."""
REQUEST_SECONDS = 11.0
"""Maximum for all calls of one request together, so that its response leaves within 15 s."""
CLEAN_UP_SECONDS = 3.0
"""Additional time in which a request may undo what it cannot finish."""
WATCH_SECONDS = 0.25
MAX_CALLS_OF_ONE, MAX_CALLS = 40, 56
"""Calls in flight to one upstream, and to all. A busy process has 10 to 20 when its CPU is exhausted."""
MAX_WAIT_SECONDS = 1.0
"""How long a call waits for others to end."""

_request_deadline: ContextVar[float] = ContextVar("request_deadline", default=math.inf)
_clean_up_deadline: ContextVar[float] = ContextVar("clean_up_deadline", default=math.inf)
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_current: ContextVar["Call | None"] = ContextVar("call", default=None)

_deadlines = sched.scheduler()
_all_calls = threading.BoundedSemaphore(MAX_CALLS)
_calls_of = {name: threading.BoundedSemaphore(MAX_CALLS_OF_ONE) for name in get_args(Upstream)}


class NotSent(Exception):
    """A call that was not made; the message says why."""


@dataclass(eq=False)
class Call:
    """A call in progress, and the sockets from which it reads responses."""

    upstream: Upstream
    deadline: float
    sockets: list[socket] = field(default_factory=list)
    over: bool = False

    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def use(self, connection: socket) -> None:
        self.sockets.append(connection)
        if self.over:
            self.shut_down()

    def shut_down(self) -> None:
        self.over = True
        for connection in self.sockets:
            try:
                # The plain socket's method: the TLS one would clear state that the reading thread uses.
                socket.shutdown(connection, SHUT_RDWR)
            except OSError:
                continue  # it has just been closed


def current_request_id() -> str | None:
    """The id of the request that this thread handles, if any."""
    return _request_id.get()


def current_call() -> Call | None:
    """The call that this thread is making, if any."""
    return _current.get()


def seconds_left() -> float:
    """The seconds until the deadline of this thread's request; REQUEST_SECONDS if it handles none."""
    return max(0.0, min(REQUEST_SECONDS, _request_deadline.get() - time.monotonic()))


@contextmanager
def request_budget(request_id: str, seconds: float = REQUEST_SECONDS) -> Iterator[None]:
    """All calls inside end within `seconds` from now and carry `request_id`."""
    now = time.monotonic()
    deadline = _request_deadline.set(now + seconds)
    clean_up = _clean_up_deadline.set(now + seconds + CLEAN_UP_SECONDS)
    identifier = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_deadline.reset(deadline)
        _clean_up_deadline.reset(clean_up)
        _request_id.reset(identifier)


@contextmanager
def extra_time(seconds: float = CLEAN_UP_SECONDS) -> Iterator[None]:
    """Allow clean-up calls `seconds` more, at most CLEAN_UP_SECONDS per request."""
    latest = min(time.monotonic() + seconds, _clean_up_deadline.get())
    token = _request_deadline.set(max(_request_deadline.get(), latest))
    try:
        yield
    finally:
        _request_deadline.reset(token)


@contextmanager
def call(upstream: Upstream) -> Iterator[Call]:
    """One call, which ends at its deadline. Raises NotSent if no time is left, or too many calls wait."""
    now = time.monotonic()
    deadline = min(now + CALL_SECONDS, _request_deadline.get())
    wait = min(MAX_WAIT_SECONDS, deadline - now)
    with waiting(_calls_of[upstream], wait), ending_at(upstream, deadline) as current:
        yield current


@contextmanager
def ending_at(upstream: Upstream, deadline: float) -> Iterator[Call]:
    """A call outside the bulkhead, which one thread at a time makes. Raises NotSent if no time is left."""
    current = Call(upstream, deadline)
    if not current.seconds_left():
        raise NotSent("no time left in this request")
    token = _current.set(current)
    _start_watchdog()
    deadline_event = _deadlines.enterabs(deadline, 0, current.shut_down)
    try:
        yield current
    finally:
        with suppress(ValueError):  # it is over
            _deadlines.cancel(deadline_event)
        _current.reset(token)


@contextmanager
def waiting(places: threading.BoundedSemaphore, seconds: float = 0.0) -> Iterator[None]:
    """Take a place, and one of all calls'. Raises NotSent if there is none within `seconds`."""
    wait_until = time.monotonic() + seconds
    with _slot(places, wait_until), _slot(_all_calls, wait_until):
        yield


@contextmanager
def _slot(slots: threading.BoundedSemaphore, wait_until: float) -> Iterator[None]:
    if not slots.acquire(timeout=max(0.0, wait_until - time.monotonic())):
        raise NotSent("too many calls wait for it already")
    try:
        yield
    finally:
        slots.release()


@functools.cache
def _start_watchdog() -> None:
    """Start the thread that ends calls at their deadlines. The first call does, so never before a fork."""

    def watch() -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            _deadlines.run(blocking=False)

    threading.Thread(target=watch, name="call-watchdog", daemon=True).start()
