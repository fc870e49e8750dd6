"""A threaded worker whose threads handle only requests that have arrived; its main loop handles the rest."""

import errno
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import ThreadWorker

from trusted_service.server.connection import SILENCE_SECONDS, Connection
from trusted_service.server.framing import MAX_BODY, Arrival
from trusted_service.server.refusals import refuse

QUEUE_SECONDS = 3.0
"""How long a request that has arrived may wait for a thread; its upstream calls take up to 11 s more."""
MAX_RECEIVED = 2 * MAX_BODY
"""Bytes of a request that may wait. Beyond it, there is no thread for the body, or the head is too large."""
MAX_UNSENT_OF_ALL = 64 * 1024 * 1024
"""Bytes of all unsent responses. Beyond it, clients that read nothing are dropped first."""
LINGER_SECONDS, MAX_DRAINED = 2.0, 64 * 1024
"""How long, and for how many bytes, a closed connection is read, so that its client gets the response."""
IDLE_SECONDS = 20.0
"""How much later than others an idle connection is given up to make room."""
STOP_SECONDS = 6.0
"""How long a worker that stops keeps silent connections open: a request may be on its way."""
SWEEP_SECONDS = 0.5
ACCEPTED_AT_ONCE = 16
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_CONNECTION = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED)


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no annotations
    """gunicorn's, except that `_waiting` holds all connections without a complete request."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: dict[Connection, None] = {}
        self._ready: deque[Connection] = deque()
        self._busy = self._taken = 0
        self._swept_at = 0.0
        self.ends_at_once = False

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not (enabled or self.alive):
            # When the process ends, the kernel would reset those in its queue: serve them, refuse others.
            while self.sockets:
                while self.accept(self.sockets[-1]):
                    pass
                self.sockets.pop().close()

    def accept(self, listener: Any) -> bool:
        """Accept some connections, and return whether there may be more."""
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                accepted, client = listener.accept()
                self.nr_conns += 1
                if self.nr_conns >= self.worker_connections:
                    self._make_room()
                connection = Connection(self.cfg, accepted, client, listener.getsockname())
                self._wait(connection, EVENT_READ, self._receive)
                self._run(connection, self._receive)
            return True
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._make_room()
            elif error.errno not in _NO_CONNECTION:
                self.log.warning("Could not accept a connection: %s", error)
            return False

    def enqueue_req(self, conn: Connection) -> None:
        if self._busy < self.cfg.threads:
            self._busy += 1
            super().enqueue_req(conn)
        else:
            conn.begin_wait(QUEUE_SECONDS)
            self._ready.append(conn)

    def handle_request(self, req: Any, conn: Connection) -> bool:
        # gunicorn would announce keep-alive, and close because of the rest of a body that nothing has read.
        req.must_close = req.must_close or conn.is_long
        try:
            return bool(super().handle_request(req, conn))
        except OSError as error:
            conn.sock.abort()
            if isinstance(error, TimeoutError):  # the client is gone: gunicorn would log an error
                raise ConnectionResetError(errno.ECONNRESET, "the client is gone") from error
            raise

    def finish_request(self, conn: Connection, fs: "Future[bool]") -> None:
        self._busy -= 1
        if self._ready:
            # Every fourth time the newest, else the oldest: a thousand sent at once delay a later one less.
            self._taken += 1
            self.enqueue_req(self._ready.popleft() if self._taken % 4 else self._ready.pop())
        conn.keeps_alive = not fs.cancelled() and fs.exception() is None and fs.result()
        self._attempt(conn, self._finish)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, SWEEP_SECONDS))
        now = time.monotonic()
        if now - self._swept_at > SWEEP_SECONDS:
            self._swept_at = now
            for connection in [each for each in self._waiting if each.sock.unsent]:
                connection.follow_reader()
            for connection in [each for each in self._waiting if now - each.since > each.limit]:
                # A long body waits for a thread, any other silence is the client's.
                self._attempt(connection, self._refuse if connection.is_long else self._drop)
            for connection in [each for each in self._ready if now - each.since > each.limit]:
                self._ready.remove(connection)
                self._attempt(connection, self._refuse)
            for connection in [each for each in self._waiting if each.is_long]:
                self._run(connection, self._go_on)
            # The base class accepts nothing at worker_connections.
            if self.nr_conns >= self.worker_connections:
                self._make_room()

    def _cap_keepalive(self, _: float) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        for connection in self._waiting:
            if not connection.received and not connection.sock.unsent:
                connection.limit = min(connection.limit, deadline - connection.since)

    def handle_quit(self, sig: int, frame: Any) -> None:
        # The base class's own takes a lock that the interrupted main loop may hold.
        self.ends_at_once = True
        BaseWorker.handle_quit(self, sig, frame)

    def _wait(self, connection: Connection, event: int, ready: Any, limit: float = SILENCE_SECONDS) -> None:
        connection.begin_wait(limit)
        connection.ready = ready
        self._waiting[connection] = None
        self.poller.register(connection.sock, event, partial(self._run, connection, ready))

    def _run(self, connection: Connection, ready: Any, _: Any = None) -> None:
        """Go on with a connection on which something happened, unless it was dropped a moment ago."""
        if connection in self._waiting:
            self._attempt(connection, ready)

    def _attempt(self, connection: Connection, step: Any) -> None:
        """Drop the connection if that fails: no connection may end the main loop."""
        try:
            step(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
        except Exception:
            self.log.exception("Dropped a connection")
            self._drop(connection)

    def _stop_waiting(self, connection: Connection) -> None:
        if connection in self._waiting:
            del self._waiting[connection]
            self.poller.unregister(connection.sock)

    def _drop(self, connection: Connection) -> None:
        self._stop_waiting(connection)
        self.nr_conns -= 1
        connection.close()

    def _make_room(self) -> None:
        """Drop some of those that wait longest, unless a request has arrived a moment ago."""
        longest = sorted(self._waiting, key=lambda each: each.since + IDLE_SECONDS * each.is_idle)
        for connection in longest[: len(longest) // 20 + 1]:
            self._run(connection, connection.ready)
            if connection in self._waiting:
                self._drop(connection)

    def _receive(self, connection: Connection) -> None:
        data = connection.sock.receive()
        if not connection.received:
            connection.begin_wait(SILENCE_SECONDS)  # for the whole request
        connection.received += data
        if data:
            self._go_on(connection)
        else:
            self._drop(connection)  # a request that is there has been started, and half of one must not be

    def _go_on(self, connection: Connection) -> None:
        arrival = connection.framing.judge(connection.received)
        connection.is_long = arrival is Arrival.LONG
        if arrival is Arrival.WHOLE or (connection.is_long and connection.sock.take_place()):
            self._stop_waiting(connection)
            connection.give_to_parser()
            self.enqueue_req(connection)
        elif connection.is_long and len(connection.received) > MAX_RECEIVED:
            self._refuse(connection)
        elif len(connection.received) > MAX_RECEIVED:
            self._refuse(connection, 431)

    def _refuse(self, connection: Connection, status: int = 503) -> None:
        self._stop_waiting(connection)
        connection.keeps_alive = False
        connection.sock.unsent += refuse(status)
        self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        """Begin to send what is left of the response."""
        connection.sock.release_place()
        connection.is_long = False
        connection.begin_response()
        connection.take_from_parser()
        self._respond(connection)

    def _respond(self, connection: Connection) -> None:
        """Send what is left of the response; then wait for the next request, or close. Raises OSError."""
        connection.sock.flush()
        if connection.sock.unsent:
            if connection not in self._waiting:
                self._wait(connection, EVENT_WRITE, self._respond)
                self._bound_unsent()
            return
        self._stop_waiting(connection)
        if not connection.keeps_alive:
            connection.sock.end()
            connection.received.clear()
            self._wait(connection, EVENT_READ, self._drain, LINGER_SECONDS)
        elif connection.received:
            self._wait(connection, EVENT_READ, self._receive)
            self._go_on(connection)
        else:
            limit = self.cfg.keepalive if self.alive else STOP_SECONDS
            self._wait(connection, EVENT_READ, self._receive, limit)

    def _bound_unsent(self) -> None:
        clients = [each for each in self._waiting if each.sock.unsent]
        clients.sort(key=lambda each: (each.reads, each.since))
        while sum(len(each.sock.unsent) for each in clients) > MAX_UNSENT_OF_ALL:
            self._drop(clients.pop(0))

    def _drain(self, connection: Connection) -> None:
        data = connection.sock.receive()
        connection.received += data
        if not data or len(connection.received) > MAX_DRAINED:
            self._drop(connection)
