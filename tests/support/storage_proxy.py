"""A proxy in front of Azurite that counts calls and, on demand, misbehaves as a storage can."""

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import urlsplit

import requests

Kind = Literal[
    "status", "reset", "hang", "half", "drip", "delay", "fail-after-commit", "hang-after-commit", "signal"
]

IDLE_SECONDS = 2.0
REFUSAL = json.dumps({"odata.error": {"code": "PlantedFault", "message": {"value": "Planted."}}}).encode()
"""https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2#sample-error-response"""
BACKGROUND_TABLES = ("usage", "jobs")


@dataclass(kw_only=True)
class Fault:
    """What becomes of calls that match: the next `times`, or all until cleared.

    A call matches by its method, its table, and where they are given by holding `about` and `also` in key or
    body, so that people whose calls misbehave in different ways can be served side by side. `committed` tells
    that a call that hangs after it was done is done.
    """

    kind: Kind
    method: str = ""
    table: str = ""
    about: str = ""
    also: str = ""
    times: int | None = None
    skip: int = 0
    status: int = 503
    retry_after: str | None = None
    seconds: float = 0.0
    action: Callable[[], object] | None = None
    committed: bool = False

    def strikes(self, call: "Call") -> bool:
        if not (call.method.startswith(self.method) and call.table.startswith(self.table)) or self.times == 0:
            return False
        if self.about not in call.text or self.also not in call.text:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as the storage saw it. `table` is the path's first part behind the account.

    `text` is what it is about: path and body as they came.
    """

    method: str
    table: str
    request_id: str | None
    text: str


@dataclass
class _State:
    upstream: str
    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)
    cleared: threading.Event = field(default_factory=threading.Event)


class StorageProxy:
    """Runs in a thread of the tests; `connection_string` leads through it."""

    def __init__(self, connection_string: str) -> None:
        endpoint = next(
            part.partition("=")[2]
            for part in connection_string.split(";")
            if part.startswith("TableEndpoint=")
        )
        self._state = _State(upstream=urlsplit(endpoint).netloc)
        state = self._state

        class Handler(_Handler):
            proxied = state

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        address = f"127.0.0.1:{self._server.server_address[1]}"
        self.connection_string = connection_string.replace(self._state.upstream, address)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._state.stopped.set()
        self.clear()
        self._server.shutdown()
        self._server.server_close()

    def plant(self, fault: Fault) -> None:
        with self._state.lock:
            self._state.cleared.clear()
            self._state.faults.append(fault)

    def remove(self, fault: Fault) -> None:
        """Let no further call meet the fault."""
        with self._state.lock:
            fault.times = 0
            self._state.faults = [planted for planted in self._state.faults if planted is not fault]

    def clear(self) -> None:
        with self._state.lock:
            self._state.faults.clear()
            self._state.calls.clear()
            self._state.cleared.set()

    def wait_until_quiet(self, seconds: float = 0.5) -> None:
        """Wait until nothing has come for `seconds`: until what a request left to do afterwards is done."""
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            if len(self.calls()) != seen:
                seen, since = len(self.calls()), time.monotonic()
            time.sleep(0.02)

    def calls(self, *, background: bool = False) -> list[Call]:
        """What has come since `clear`; what the service does by itself now and then only if asked for."""
        with self._state.lock:
            calls = list(self._state.calls)
        return [call for call in calls if background or not call.table.startswith(BACKGROUND_TABLES)]

    def calls_for(self, answer: requests.Response) -> list[Call]:
        """Those of them that were made for this answer of the service, also after it left."""
        return [call for call in self.calls() if call.request_id == answer.headers["X-Request-ID"]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxied: _State

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.upstream = http.client.HTTPConnection(self.proxied.upstream)
        self.upstream_used = time.monotonic()

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def handle_one_request(self) -> None:
        """Read a request, pass it on or not, answer."""
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
        with self.proxied.lock:
            self.proxied.calls.append(call)
            fault = next((fault for fault in self.proxied.faults if fault.strikes(call)), None)
        if fault is None:
            self._answer(*self._forward(body))
        else:
            self._misbehave(fault, body)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        # Azurite closes connections that were idle for 5 s, and one that it closes right now looks open here.
        if time.monotonic() - self.upstream_used > IDLE_SECONDS:
            self.upstream.close()
        self.upstream_used = time.monotonic()
        self.upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = self.upstream.getresponse()
        content = answer.read()
        return answer.status, answer.getheaders(), content

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, part: float = 1.0) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "keep-alive"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(len(content) * part)])
        self.wfile.flush()

    def _misbehave(self, fault: Fault, body: bytes) -> None:
        match fault.kind:
            case "delay":
                time.sleep(fault.seconds)
                self._answer(*self._forward(body))
            case "status":
                self._refuse(fault)
            case "fail-after-commit":
                self._forward(body)
                self._refuse(fault)
            case "signal":
                # Something happens elsewhere between two calls; then this one goes its way.
                assert fault.action is not None
                fault.action()
                self._answer(*self._forward(body))
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case "hang":
                self._hang()
            case "hang-after-commit":
                self._forward(body)
                fault.committed = True
                self._hang()
            case "half":
                self._answer(*self._forward(body), part=0.5)
                self.close_connection = True
            case "drip":
                self._drip(fault.seconds)

    def _hang(self) -> None:
        self.proxied.cleared.wait(60)
        self.close_connection = True

    def _refuse(self, fault: Fault) -> None:
        headers = [("Content-Type", "application/json")]
        if fault.retry_after is not None:
            headers.append(("Retry-After", fault.retry_after))
        self._answer(fault.status, headers, REFUSAL)

    def _drip(self, seconds: float) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
        while not self.proxied.cleared.wait(seconds):
            self.wfile.write(b" ")
            self.wfile.flush()
