"""The connections of this process to all upstreams: one session, bounded by each call's deadline."""

import threading
from concurrent.futures import Future
from functools import partial
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

from trusted_service.azure import deadlines
from trusted_service.observability.signals import observe_call

CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0


class _Bounded(HTTPConnection):
    """A connection whose deadline is that of the current call."""

    def _new_conn(self) -> socket:
        """Look the name up and connect, in CONNECT_SECONDS together, however many addresses there are.

        A separate thread does it, since nothing else can stop a lookup: one that hangs is abandoned.
        """
        connected: Future[socket] = Future()

        def connect() -> None:
            try:
                connected.set_result(super(_Bounded, self)._new_conn())
            except BaseException as error:
                connected.set_exception(error)

        threading.Thread(target=connect, name="connect", daemon=True).start()
        call = deadlines.current_call()
        seconds = CONNECT_SECONDS if call is None else min(CONNECT_SECONDS, call.seconds_left())
        try:
            return connected.result(seconds)
        except TimeoutError:
            connected.add_done_callback(_close_abandoned)
            reason = f"no connection to {self.host} in {seconds:.1f} s"
            raise ConnectTimeoutError(self, reason) from None

    def getresponse(self) -> Any:
        call = deadlines.current_call()
        if call is not None and isinstance(self.sock, socket):
            call.use(self.sock)
        return super().getresponse()


def _close_abandoned(connected: "Future[socket]") -> None:
    if connected.exception() is None:
        connected.result().close()


class _BoundedTLS(_Bounded, HTTPSConnection):
    pass


class _HTTPConnectionPool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _HTTPSConnectionPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTLS


class _Adapter(HTTPAdapter):
    """Gives each call a bounded connection, our timeouts, and the id of the request that it serves."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPConnectionPool, "https": _HTTPSConnectionPool}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT_SECONDS, READ_SECONDS)
        request_id = deadlines.current_request_id()
        if request_id:
            request.headers["x-ms-client-request-id"] = request_id
            request.headers["client-request-id"] = request_id
        send, call = partial(super().send, request, *args, **kwargs), deadlines.current_call()
        if call is None:
            return send()
        return observe_call(call.upstream, request.method or "", request.url or "", send)


def new_session(connections: int) -> requests.Session:
    """A session that keeps up to `connections` connections per host open and may be shared by threads.

    It reads no proxy settings and no .netrc (`trust_env`), which costs a tenth of each call. It retries once
    what was never sent, and a GET whose connection broke.
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
    """The session for the Azure SDKs. Given a transport, they take timeouts from it alone."""
    return RequestsTransport(
        session=session,
        session_owner=False,
        connection_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        connection_verify=session.verify,
    )
