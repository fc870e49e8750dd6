"""Records calls and applies faults to the operations of a Flask app.

The endpoint of a route is the name of its operation. A fault is an ordinary response whose body fails
when the server sends it (see `servers.Handler`), so views need no code for faults.
"""

import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flask import Flask, Response, g, jsonify, request

from local_azure.faults import Fault, Faults
from local_azure.journal import Journal

ErrorForm = Callable[[int, str], dict[str, object]]
"""Creates the service's error body from a status and the code of the fault."""

POLL_SECONDS = 0.2
# Only Linux reports a half-closed connection without a read; elsewhere, wait for a full close.
_GONE = getattr(select, "POLLRDHUP", select.POLLHUP) | select.POLLHUP | select.POLLERR


@dataclass(frozen=True)
class Watch:
    """The journal, the faults, and the form of errors of one service."""

    service: str
    journal: Journal
    faults: Faults
    error_form: ErrorForm

    def install(self, app: Flask) -> None:
        """Watch every route of `app` that is named after an operation."""
        app.before_request(self._apply_fault)
        app.after_request(self._finish)

    def _apply_fault(self) -> Response | None:
        operation = name_operation()
        if operation is None or request.method == "OPTIONS":
            return None
        self.journal.count(self.service, operation)
        fault = g.fault = self.faults.take(self.service, operation, _text())
        if fault is None:
            return None
        match fault.kind:
            case "status":
                return self._respond(fault)
            case "hang" | "reset":
                return _break_off(fault, fault.kind)
            case "drip":
                return _drip(fault)
            case "delay":
                fault.cleared.wait(fault.seconds)
            case "half" | "fail-after-commit" | "refuse":
                pass  # after the work, or by the view
        return None

    def _finish(self, response: Response) -> Response:
        operation = name_operation()
        if operation is None or request.method == "OPTIONS":
            return response
        fault: Fault | None = g.get("fault")
        if fault is not None and fault.kind == "half":
            response = _halve(response)
        elif fault is not None and fault.kind == "fail-after-commit":
            response = self._respond(fault) if fault.then == "status" else _break_off(fault, fault.then)
        whole = (
            fault is None
            or fault.kind in {"status", "delay", "refuse"}
            or (fault.kind == "fail-after-commit" and fault.then == "status")
        )
        self.journal.record(
            self.service,
            operation,
            response.status_code if whole else None,
            request.headers.get("x-ms-client-request-id"),
            request.headers.get("User-Agent"),
        )
        return response

    def _respond(self, fault: Fault) -> Response:
        body = fault.body
        if body is None:
            body = self.error_form(fault.status, fault.code or "PlantedFault")
        response = Response(body) if isinstance(body, str) else jsonify(body)
        response.status_code = fault.status
        if fault.retry_after is not None:
            response.headers["Retry-After"] = fault.retry_after
        if fault.authenticate is not None:
            response.headers["WWW-Authenticate"] = fault.authenticate
        return response


def name_operation() -> str | None:
    """Return the operation of the request, or None if its route has none."""
    name = (request.endpoint or "").rpartition(".")[2]
    return name if name and name != "static" else None


def _text() -> str:
    """Return path and body of the request, for a fault's `about`."""
    return request.path + request.get_data(as_text=True)


def _break_off(fault: Fault, how: str) -> Response:
    connection: socket.socket = request.environ["werkzeug.socket"]
    if how == "reset":
        return Response(_reset(connection))
    return Response(_hang(connection, fault.cleared))


def _reset(connection: socket.socket) -> Iterator[bytes]:
    """Send a TCP reset, by closing the socket with a linger time of zero."""
    yield from ()  # a generator runs only when the server sends the body
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
    raise ConnectionError("planted reset")


def _hang(connection: socket.socket, cleared: threading.Event) -> Iterator[bytes]:
    """Send nothing until the client disconnects or the fault is cleared, then close."""
    yield from ()
    poll = select.poll()
    poll.register(connection, _GONE)
    while not cleared.wait(POLL_SECONDS) and not poll.poll(0):
        pass
    raise ConnectionError("planted hang")


def _drip(fault: Fault) -> Response:
    def drip() -> Iterator[bytes]:
        while True:
            yield b" "  # white space may precede JSON, so clients cannot tell that nothing follows
            if fault.cleared.wait(fault.seconds):
                raise ConnectionError("planted drip")

    return Response(drip(), content_type="application/json")


def _halve(response: Response) -> Response:
    body = response.get_data()
    halved = Response(iter([body[: len(body) // 2]]), response.status_code, response.headers)
    halved.headers["Content-Length"] = str(len(body))
    return halved
