"""How this process calls Entra ID, Table Storage and Communication Services over HTTP.

One pooled session for everything; a limit in time for every call, and for all calls of one
request together; the request's id on each. `requests` and the SDKs on top of it bound only the
wait for the *next* bytes, so an upstream that sends a byte now and then could hold a thread for
ever: here a call that has used up its time has its connection shut down under it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from os import environ
from socket import SHUT_RDWR, socket
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
CALL_SECONDS = 6.0
"""The most that one call may take, with connecting, one retry where that is safe, and all of the answer."""
REQUEST_SECONDS = 11.0
"""The most that all calls of one request may take together, so that its answer leaves within 15 s."""

CLEAN_UP_SECONDS = 3.0
"""What a request may take on top of that to undo what it cannot finish."""

_request_ends: ContextVar[float | None] = ContextVar("request_ends", default=None)
_clean_up_ends: ContextVar[float | None] = ContextVar("clean_up_ends", default=None)
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_current: ContextVar["_Call | None"] = ContextVar("call", default=None)


def current_request_id() -> str | None:
    """The id of the request that this thread works on, if it does."""
    return _request_id.get()


class OutOfTime(Exception):
    """The request has no time left for another call."""


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
    """All calls inside end within `seconds` from now, so that time is left for another way."""
    now = time.monotonic()
    ends = _request_ends.set(min(now + seconds, _request_ends.get() or now + seconds))
    try:
        yield
    finally:
        _request_ends.reset(ends)


@contextmanager
def call(seconds: float = CALL_SECONDS) -> Iterator[None]:
    """One call to an upstream: its connections are shut down when its time is over.

    The SDK then reports a broken connection in its own way. Raises OutOfTime, before anything
    is sent, where the request's own time is over.
    """
    ends = time.monotonic() + seconds
    request_ends = _request_ends.get()
    if request_ends is not None:
        ends = min(ends, request_ends)
    if ends <= time.monotonic():
        raise OutOfTime
    current = _Call(ends)
    token = _current.set(current)
    _watch.add(current)
    try:
        yield
    finally:
        _watch.remove(current)
        _current.reset(token)


@dataclass(eq=False)
class _Call:
    """A call under way and the sockets it uses."""

    ends: float
    sockets: list[socket] = field(default_factory=list)
    over: bool = False

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
        self._calls: set[_Call] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, current: _Call) -> None:
        with self._lock:
            self._calls.add(current)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="upstream-watch", daemon=True)
                self._thread.start()

    def remove(self, current: _Call) -> None:
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


class _WatchedHTTPConnection(HTTPConnection):
    def getresponse(self) -> Any:
        _watch_socket(self)
        return super().getresponse()


class _WatchedHTTPSConnection(HTTPSConnection):
    def getresponse(self) -> Any:
        _watch_socket(self)
        return super().getresponse()


def _watch_socket(connection: HTTPConnection) -> None:
    current = _current.get()
    if current is not None and isinstance(connection.sock, socket):
        current.use(connection.sock)


class _HTTPConnectionPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _HTTPSConnectionPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


class _Adapter(HTTPAdapter):
    """Gives each call a pooled, watched connection, our timeouts, and the id of the request it serves."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPConnectionPool, "https": _HTTPSConnectionPool}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT_SECONDS, READ_SECONDS)
        request_id = _request_id.get()
        if request_id:
            request.headers["x-ms-client-request-id"] = request_id
            request.headers["client-request-id"] = request_id
        return super().send(request, *args, **kwargs)


def new_session(connections: int) -> requests.Session:
    """A session that keeps up to `connections` connections per host open and may be shared by threads.

    It reads no proxy settings and no .netrc (`trust_env`), which costs a tenth of each call; a
    private CA is still trusted through REQUESTS_CA_BUNDLE or SSL_CERT_FILE. Retried, once: what
    was never sent, and a GET whose connection broke. Nothing else can be repeated safely.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or True
    retry = Retry(
        total=1, status=0, redirect=0, other=0, allowed_methods={"GET"}, respect_retry_after_header=False,
        raise_on_status=False,
    )  # fmt: skip
    adapter = _Adapter(pool_connections=8, pool_maxsize=connections, max_retries=retry)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def new_transport(session: requests.Session) -> RequestsTransport:
    """The session as the Azure SDKs want it. Once a transport is given, they take timeouts from it alone."""
    return RequestsTransport(
        session=session,
        session_owner=False,
        connection_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        connection_verify=session.verify,
    )
