"""How long this process may take to call Entra ID, Table Storage and Communication Services.

A limit in time for every call, and for all calls of one request together; the request's id on each.
`requests` and the SDKs on top of it bound only the wait for the *next* bytes, so an upstream that sends
a byte now and then could hold a thread for ever: here a call that has used up its time has its
connection shut down under it. And no more calls than `places` has room for wait at once.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from socket import SHUT_RDWR, socket

from trusted_service.places import Places

CALL_SECONDS = 6.0
"""The most that one call may take, with connecting, one retry where that is safe, and all of the answer."""
REQUEST_SECONDS = 11.0
"""The most that all calls of one request may take together, so that its answer leaves within 15 s."""

CLEAN_UP_SECONDS = 3.0
"""What a request may take on top of that to undo what it cannot finish."""

_request_ends: ContextVar[float | None] = ContextVar("request_ends", default=None)
_clean_up_ends: ContextVar[float | None] = ContextVar("clean_up_ends", default=None)
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_current: ContextVar["Call | None"] = ContextVar("call", default=None)


def current_request_id() -> str | None:
    """The id of the request that this thread works on, if it does."""
    return _request_id.get()


class NotSent(Exception):
    """A call that was not made; the message says why."""


@contextmanager
def request_budget(request_id: str, seconds: float = REQUEST_SECONDS) -> Iterator[None]:
    """All calls inside end within `seconds` from now and carry `request_id`."""
    ends = _request_ends.set(time.monotonic() + seconds)
    clean_up_ends = _clean_up_ends.set(time.monotonic() + seconds + CLEAN_UP_SECONDS)
    identifier = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_ends.reset(ends)
        _clean_up_ends.reset(clean_up_ends)
        _request_id.reset(identifier)


@contextmanager
def extra_time(seconds: float = CLEAN_UP_SECONDS) -> Iterator[None]:
    """For cleaning up: calls inside may take `seconds`, also where the request's own time is over.

    All extra time of a request together ends CLEAN_UP_SECONDS after its own.
    """
    now = time.monotonic()
    latest = _clean_up_ends.get() or now + seconds
    ends = _request_ends.set(max(_request_ends.get() or now, min(now + seconds, latest)))
    try:
        yield
    finally:
        _request_ends.reset(ends)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Calls inside end within `seconds` from now, and not after the request's own time."""
    ends = time.monotonic() + seconds
    token = _request_ends.set(min(ends, _request_ends.get() or ends))
    try:
        yield
    finally:
        _request_ends.reset(token)


@contextmanager
def call(to: str) -> Iterator[None]:
    """One call to the upstream `to`: its connections are shut down when its time is over.

    The SDK then reports a broken connection in its own way. Raises NotSent, before anything is sent,
    where the request's own time is over, or too many calls wait for this upstream already.
    """
    ends = time.monotonic() + CALL_SECONDS
    if not _places.take(to):
        raise NotSent("too many calls wait for it already")
    try:
        current = Call(min(ends, _request_ends.get() or ends))
        if not current.seconds_left():
            raise NotSent("no time left in this request")
        token = _current.set(current)
        _watch.add(current)
        try:
            yield
        finally:
            _watch.remove(current)
            _current.reset(token)
    finally:
        _places.free(to)


def current_call() -> "Call | None":
    """The call that this thread is making, if it is."""
    return _current.get()


@dataclass(eq=False)
class Call:
    """A call under way and the sockets it uses."""

    ends: float
    sockets: list[socket] = field(default_factory=list)
    over: bool = False

    def seconds_left(self) -> float:
        return max(0.0, self.ends - time.monotonic())

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
                continue  # it has just closed by itself


class _Watch:
    """A thread that ends calls whose time is over. Started by the first call, so never before a fork."""

    EVERY_SECONDS = 0.25

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, current: Call) -> None:
        with self._lock:
            self._calls.add(current)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="upstream-watch", daemon=True)
                thread.start()
                self._thread = thread

    def remove(self, current: Call) -> None:
        with self._lock:
            self._calls.discard(current)

    def _run(self) -> None:
        while True:
            time.sleep(self.EVERY_SECONDS)
            now = time.monotonic()
            with self._lock:
                overdue = [current for current in self._calls if current.ends <= now]
                self._calls.difference_update(overdue)
            for current in overdue:
                current.shut_down()


_watch = _Watch()
_places = Places()
