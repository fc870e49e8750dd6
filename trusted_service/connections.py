"""The connections of this process to Entra ID, Table Storage and Communication Services.

One pooled session for everything. `requests` and the SDKs on top of it bound the wait for each
address and for the next bytes, and looking a name up not at all: here a call's own time bounds them.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from http.cookiejar import DefaultCookiePolicy
from os import environ
from socket import socket
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

from trusted_service import upstream

CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0


class _WatchedHTTPConnection(HTTPConnection):
    def _new_conn(self) -> socket:
        return _connect_in_time(self, super()._new_conn)

    def getresponse(self) -> Any:
        _watch_socket(self)
        return super().getresponse()


class _WatchedHTTPSConnection(HTTPSConnection):
    def _new_conn(self) -> socket:
        return _connect_in_time(self, super()._new_conn)

    def getresponse(self) -> Any:
        _watch_socket(self)
        return super().getresponse()


def _connect_in_time(connection: HTTPConnection, connect: Callable[[], socket]) -> socket:
    """Look the name up and connect, in CONNECT_SECONDS together, however many addresses there are.

    A thread of its own does it, since nothing else can stop a lookup: one that hangs is left behind.
    """
    connected: Future[socket] = Future()

    def run() -> None:
        try:
            connected.set_result(connect())
        except BaseException as error:
            connected.set_exception(error)

    threading.Thread(target=run, name="upstream-connect", daemon=True).start()
    current = upstream.current_call()
    seconds = CONNECT_SECONDS if current is None else min(CONNECT_SECONDS, current.seconds_left())
    try:
        return connected.result(seconds)
    except TimeoutError:
        connected.add_done_callback(_close_unwanted)
        raise ConnectTimeoutError(
            connection, f"no connection to {connection.host} in {seconds:.1f} s"
        ) from None


def _close_unwanted(connected: "Future[socket]") -> None:
    if connected.exception() is None:
        connected.result().close()


def _watch_socket(connection: HTTPConnection) -> None:
    current = upstream.current_call()
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
        request_id = upstream.current_request_id()
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
