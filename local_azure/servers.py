"""HTTP servers on free loopback ports: one thread per connection, keep-alive, optional TLS.

Werkzeug's handler closes every connection after one response and does the TLS handshake in the accepting
thread. Both would distort load tests, so this module replaces just these two.
"""

import contextlib
import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from wsgiref.types import WSGIApplication, WSGIEnvironment

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

HANDSHAKE_SECONDS = 30
STOP_SECONDS = 3
LISTEN_BACKLOG = 1024  # two hundred clients connect at once in load tests; Werkzeug's 128 would drop some

log = logging.getLogger(__name__)

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Handler(WSGIRequestHandler):
    """Serves the requests of one connection in turn, until the client disconnects."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # headers and body leave in one packet
    server: "LoopbackServer"

    def run_wsgi(self) -> None:
        """Serve one request; keep the connection if the response was complete.

        If an application sends less than its `Content-Length`, or raises ConnectionError from its iterable,
        the connection is closed at once. The faults depend on that.
        """
        environ = self.make_environ()
        if self.server.tls is not None:
            environ["wsgi.url_scheme"] = "https"
        if not self._buffer_body(environ):
            return
        status = ""
        headers: list[tuple[str, str]] = []

        def start_response(
            new_status: str, new_headers: list[tuple[str, str]], exc_info: ExceptionInfo | None = None
        ) -> object:
            nonlocal status, headers
            status, headers = new_status, new_headers
            return None

        # start_response does not return the legacy `write` callable of WSGI.
        chunks = self.server.app(environ, start_response)  # type: ignore[arg-type]
        try:
            self._send(status, headers, chunks)
        except OSError:
            self.close_connection = True
            self._forget_unsent()
        finally:
            if hasattr(chunks, "close"):
                chunks.close()

    def _buffer_body(self, environ: WSGIEnvironment) -> bool:
        """Read the whole body, so that the next request starts after it; return False if it is malformed."""
        if environ.get("wsgi.input_terminated"):
            stream: io.IOBase = environ["wsgi.input"]
            body = stream.read()
        else:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit():
                self.send_error(400)
                return False
            body = self.rfile.read(int(length))
        environ["wsgi.input"] = io.BytesIO(body)
        return True

    def _send(self, status: str, headers: list[tuple[str, str]], chunks: Iterable[bytes]) -> None:
        promised: int | None = None
        sent: int | None = None
        for chunk in chunks:
            if sent is None:
                promised = self._send_headers(status, headers)
                sent = 0
            self.wfile.write(chunk)
            self.wfile.flush()
            sent += len(chunk)
        if sent is None:
            promised = self._send_headers(status, headers)
            self.wfile.flush()
            sent = 0
        if self.command != "HEAD" and promised is not None and sent < promised:
            self.close_connection = True

    def _send_headers(self, status: str, headers: list[tuple[str, str]]) -> int | None:
        """Buffer the status line and headers; return the declared length of the body, or None."""
        code, _, reason = status.partition(" ")
        self.send_response_only(int(code), reason)
        length: int | None = None
        for name, value in headers:
            self.send_header(name, value)
            if name.lower() == "content-length":
                length = int(value)
        if length is None and code not in {"204", "304"}:
            self.send_header("Connection", "close")  # the end of the connection is the end of the body
        self.end_headers()
        return length

    def _forget_unsent(self) -> None:
        """Replace the writer whose buffer can no longer be flushed, because closing it would raise again."""
        with contextlib.suppress(OSError):
            self.wfile.close()
        self.wfile = io.BytesIO()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log a line only when debugging."""
        log.debug("%s %s", self.command, self.path)


class LoopbackServer(ThreadedWSGIServer):
    """A server on a free port of 127.0.0.1, started and stopped by its owner."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = LISTEN_BACKLOG

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Bind a port at once, so that its number is known before the application is created."""
        self.tls = tls
        self._lock = threading.Lock()
        self._stopping = False
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__("127.0.0.1", 0, _raise_not_ready, handler=Handler)
        scheme = "http" if tls is None else "https"
        self.origin = f"{scheme}://localhost:{self.port}"

    def start(self, app: WSGIApplication) -> None:
        """Serve `app` in a thread of its own until `stop`."""
        self.app = app
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Accept no more connections, close the open ones, and wait for their threads."""
        self.shutdown()
        with self._lock:
            self._stopping = True
            connections = dict(self._connections)
        for connection in connections.values():
            with contextlib.suppress(OSError):
                # Bypass SSLSocket's `shutdown`, which would let its thread continue in plain text.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in connections:
            thread.join(max(0, deadline - time.monotonic()))

    # `socketserver` types a request as "socket or datagram"; a stream server only ever has the former.
    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve one connection in its own thread."""
        try:
            if not self._enter(request):
                return
            if self.tls is None:
                Handler(request, client_address, self)
            else:
                self._serve_securely(self.tls, request, client_address)
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def _serve_securely(self, tls: ssl.SSLContext, request: socket.socket, client_address: object) -> None:
        """Do the TLS handshake in this thread, so that a slow client does not delay others."""
        request.settimeout(HANDSHAKE_SECONDS)
        try:
            connection = tls.wrap_socket(request, server_side=True)
        except OSError:
            return  # the client disconnected, or does not trust the CA
        with connection:
            connection.settimeout(None)
            if self._enter(connection):
                Handler(connection, client_address, self)

    def _enter(self, connection: socket.socket) -> bool:
        """Register the connection for `stop`; return False if the server is stopping."""
        with self._lock:
            self._connections[threading.current_thread()] = connection
            return not self._stopping

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close the socket; after a TLS handshake it has been closed already."""
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        request.close()


def _raise_not_ready(environ: WSGIEnvironment, start_response: object) -> Iterable[bytes]:
    raise RuntimeError("the server was started without an application")
