"""A reverse proxy in front of several instances, which distributes requests as App Service's does."""

import contextlib
import http.client
import select
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Self

from tests.support.http_server import QuietHandler
from tests.support.service import Service

HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "server", "date")
"""https://www.rfc-editor.org/rfc/rfc9110.html#section-7.6.1, and what this server writes itself"""
CALL_SECONDS = 30

Answer = tuple[int, list[tuple[str, str]], bytes]


class FrontEnd:
    """Takes instances in turn, and keeps connections to them open for as long as they do.

    What it does not get a whole response to is a 502 and in `failures`. Only a connection that is refused, on
    which it has sent nothing, leads it to the next instance.
    """

    def __init__(self) -> None:
        self.failures = list[str]()
        self.served = Counter[int]()
        """Responses by the port of the instance."""
        self._ports = list[int]()
        self._idle: dict[int, list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"front": self}))
        self.url = f"http://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in [each for idle in self._idle.values() for each in idle]:
            connection.close()

    def put_in(self, instance: Service) -> None:
        with self._lock:
            self._idle.setdefault(instance.port, [])
            self._ports.append(instance.port)

    def take_out(self, instance: Service) -> None:
        """Send it no new requests; those under way go on, and its connections stay open."""
        with self._lock:
            self._ports.remove(instance.port)

    def has_served(self, instance: Service, count: int) -> bool:
        return self.served[instance.port] >= count

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        for port in self._in_turn():
            connection = self._take(port)
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:
                continue
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.failures.append(f"{method} {path}: {error!r}")
                return 502, [], b""
            with self._lock:
                self.served[port] += 1
                if not response.will_close:
                    self._idle[port].append(connection)
            return response.status, response.getheaders(), content
        self.failures.append(f"{method} {path}: no instance")
        return 502, [], b""

    def _in_turn(self) -> list[int]:
        with self._lock:
            self._ports.append(self._ports.pop(0))
            return list(self._ports)

    def _take(self, port: int) -> http.client.HTTPConnection:
        """A connection that is open as far as this side knows, the last used first, or a new one."""
        with self._lock:
            while self._idle[port]:
                connection = self._idle[port].pop()
                if not select.select([connection.sock], [], [], 0)[0]:
                    return connection
                connection.close()
        return http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_SECONDS)


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    front: FrontEnd

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        address, port = self.client_address[:2]
        headers |= {"X-Forwarded-For": f"{address}:{port}", "X-Forwarded-Proto": "http"}
        status, answered, content = self.front.forward(self.command, self.path, headers, body)
        self.send_response_only(status)
        for name, value in answered:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def fleet(settings: dict[str, str], count: int = 2) -> Iterator[tuple[FrontEnd, list[Service]]]:
    """Start so many instances with two workers each behind one front end."""
    with FrontEnd() as front, contextlib.ExitStack() as stack:
        own = settings | {"PUBLIC_URL": front.url, "TRUSTED_PROXY_HOPS": "1"}
        services = [Service(own, workers=2) for _ in range(count)]
        for service in services:
            front.put_in(stack.enter_context(service))
        yield front, services
