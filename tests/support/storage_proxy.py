"""A proxy in front of Azurite that records calls and, on demand, fails as real storage can."""

import http.client
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Literal, Self

import requests

from local_azure.authority import Authority
from tests.support.http_server import QuietHandler

Kind = Literal[
    "status", "reset", "hang", "half", "drip", "delay", "fail-after-commit", "hang-after-commit", "signal",
    "date",
]  # fmt: skip

IDLE_SECONDS = 2.0
Headers = list[tuple[str, str]]
REFUSAL = b'{"odata.error": {"code": "PlantedFault", "message": {"value": "Planted."}}}'
"""https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2#sample-error-response"""
DRIP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
BACKGROUND_TABLES = ("usage", "jobs", "administrators")


@dataclass(kw_only=True)
class Fault:
    """A failure of calls with this method and table, and with `about` and `also` in key or body."""

    kind: Kind
    method: str = ""
    table: str = ""
    about: str = ""
    also: str = ""
    times: int | None = None  # None: until cleared
    skip: int = 0  # earlier calls to let through
    status: int = 503
    code: str = "PlantedFault"  # of a "date": the whole header
    retry_after: str | None = None
    seconds: float = 0.0
    action: Callable[[], object] | None = None
    committed: bool = False  # the call is committed, and hangs

    def meets(self, call: "Call") -> bool:
        """Return whether the call fails, and count it."""
        matches = call.method.startswith(self.method) and call.table.startswith(self.table)
        if not matches or self.times == 0 or not (self.about in call.text and self.also in call.text):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request to the storage. `table` is the path's first part after the account, `text` path and body."""

    method: str
    table: str
    request_id: str | None
    text: str


@dataclass
class _State:
    upstream: str
    trust: ssl.SSLContext | None  # None without TLS
    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    cleared: threading.Event = field(default_factory=threading.Event)


class StorageProxy:
    """A proxy in a thread of the tests; `connection_string` leads through it, like the one it is given.

    That may be an endpoint too. With an `authority` both sides use TLS.
    """

    def __init__(self, connection_string: str, authority: Authority | None = None) -> None:
        (upstream,) = re.findall("://([^/;]+)", connection_string)
        trust = None
        if authority is not None:
            trust = ssl.create_default_context(cafile=authority.certificate_path)
        self._state = _State(upstream=upstream, trust=trust)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": self._state}))
        if authority is not None:
            self._server.socket = authority.make_server_context().wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        address = f"127.0.0.1:{self._server.server_address[1]}"
        self.connection_string = connection_string.replace(upstream, address)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        self._server.shutdown()
        self._server.server_close()

    def plant(self, fault: Fault) -> None:
        with self._state.lock:
            self._state.cleared.clear()
            self._state.faults.append(fault)

    def remove(self, fault: Fault) -> None:
        with self._state.lock:
            fault.times = 0
            self._state.faults = [planted for planted in self._state.faults if planted is not fault]

    def clear(self) -> None:
        with self._state.lock:
            self._state.faults.clear()
            self._state.calls.clear()
            self._state.cleared.set()

    def wait_until_quiet(self, seconds: float = 0.5) -> None:
        """Wait until there has been no call for `seconds`: the background tasks of requests are done."""
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            if len(self.calls()) != seen:
                seen, since = len(self.calls()), time.monotonic()
            time.sleep(0.02)

    def calls(self, *, background: bool = False) -> list[Call]:
        """Return the calls since `clear`, those of periodic tasks only if `background`."""
        with self._state.lock:
            calls = list(self._state.calls)
        return [call for call in calls if background or not call.table.startswith(BACKGROUND_TABLES)]

    def calls_for(self, response: requests.Response) -> list[Call]:
        """Return the calls of the request with this response, including those after it."""
        return [call for call in self.calls() if call.request_id == response.headers["X-Request-ID"]]


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: _State

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(self.state.upstream)
        if self.state.trust is not None:
            self.upstream = http.client.HTTPSConnection(self.state.upstream, context=self.state.trust)
        self.upstream_used = time.monotonic()

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        table = self.path.split("/", 2)[-1].split("(")[0].split("?")[0]
        call = Call(
            method=self.command,
            table=table,
            request_id=self.headers.get("x-ms-client-request-id"),
            text=self.path + body.decode(errors="replace"),
        )
        with self.state.lock:
            self.state.calls.append(call)
            fault = next((fault for fault in self.state.faults if fault.meets(call)), None)
        if fault is None:
            self._respond(*self._forward(body))
        else:
            self._fail(fault, body)

    def _forward(self, body: bytes) -> tuple[int, Headers, bytes]:
        # Azurite closes connections after 5 s without use, and one that it is closing still looks open here.
        if time.monotonic() - self.upstream_used > IDLE_SECONDS:
            self.upstream.close()
        self.upstream_used = time.monotonic()
        self.upstream.request(self.command, self.path, body, dict(self.headers.items()))
        response = self.upstream.getresponse()
        return response.status, response.getheaders(), response.read()

    def _respond(self, status: int, headers: Headers, content: bytes, part: float = 1.0) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "keep-alive"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(len(content) * part)])

    def _fail(self, fault: Fault, body: bytes) -> None:
        match fault.kind:
            case "delay" | "signal":
                time.sleep(fault.seconds)
                if fault.action is not None:  # runs before this call is forwarded
                    fault.action()
                self._respond(*self._forward(body))
            case "date":
                status, headers, content = self._forward(body)
                headers = [header for header in headers if header[0].lower() != "date"]
                self._respond(status, [*headers, ("Date", fault.code)], content)
            case "status" | "fail-after-commit":
                if fault.kind == "fail-after-commit":
                    self._forward(body)
                more = [] if fault.retry_after is None else [("Retry-After", fault.retry_after)]
                refusal = REFUSAL.replace(b"PlantedFault", fault.code.encode())
                self._respond(fault.status, [("Content-Type", "application/json"), *more], refusal)
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case "hang" | "hang-after-commit":
                if fault.kind == "hang-after-commit":
                    self._forward(body)
                    fault.committed = True
                self.state.cleared.wait(60)
                self.close_connection = True
            case "half":
                self._respond(*self._forward(body), part=0.5)
                self.close_connection = True
            case "drip":
                self.close_connection = True
                self.wfile.write(DRIP)
                while not self.state.cleared.wait(fault.seconds):
                    self.wfile.write(b" ")
