"""A client's connection, which bounds how many threads wait for clients, and for how long."""

import contextlib
import errno
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from typing import Any

from gunicorn.workers.gthread import TConn

from trusted_service.server.framing import Framing

SILENCE_SECONDS = 10.0
"""A client that neither sends nor reads anything for this long is cut off."""
READING_SECONDS = 30.0
"""The same for a client that reads: a slow one's system may acknowledge nothing for longer."""
UNREAD_SECONDS, MIN_READ_RATE = 60.0, 4096
"""How long a client may read after a response, and the bytes for which it has another second."""
_BUFFERED_SECONDS = 1.0
"""How long the client's system may receive data although the client reads none."""
BODY_SECONDS = 15.0
"""How long a thread may wait for one request body."""
PLACES = 8
"""Threads of a worker that may wait for clients at once: 56 more may wait for upstreams, of 64."""
MAX_UNSENT = 2 * 1024 * 1024
"""Unsent bytes of a response beyond which its thread waits for the client."""
_RECEIVED_AT_ONCE = 16 * 1024

_places = threading.BoundedSemaphore(PLACES)


class ClientSocket(socket.socket):
    """Keeps what the client does not read yet, so that the thread can go on.

    `recv`, `send`, `sendall` and `sendfile` are for gunicorn's threads, and raise ConnectionResetError when
    the client is too slow or no place is free; `receive` and `flush` never wait.
    """

    _sent = 0
    _has_place = False
    body_deadline = 0.0

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.unsent = bytearray()

    def take_place(self) -> bool:
        """Whether a thread may wait for this client, until `release_place`."""
        self._has_place = self._has_place or _places.acquire(blocking=False)
        return self._has_place

    def release_place(self) -> None:
        if self._has_place:
            self._has_place = False
            _places.release()

    def receive(self) -> bytes:
        """Return what is there. Raises BlockingIOError if nothing is, and OSError."""
        return super().recv(_RECEIVED_AT_ONCE, socket.MSG_DONTWAIT)

    def flush(self) -> None:
        """Send as much as the kernel takes. Raises OSError."""
        try:
            while self.unsent:
                sent = super().send(self.unsent, socket.MSG_DONTWAIT)
                self._sent += sent
                del self.unsent[:sent]
        except BlockingIOError:
            pass

    def count_acknowledged(self) -> int:
        """Return how many bytes the client's system has received: more as the client reads, if it is slow."""
        try:
            (kept,) = struct.unpack("i", fcntl.ioctl(self, termios.TIOCOUTQ, bytes(4)))
        except OSError:  # macOS
            kept = 0
        return self._sent - int(kept)

    def end(self) -> None:
        """Tell the client that nothing follows. Raises OSError."""
        super().shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close with a reset: in HTTP/1.0, the client would take an end for that of the whole response."""
        with contextlib.suppress(OSError):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def shutdown(self, how: int) -> None:
        self.abort()  # gunicorn's threads call it when a response broke

    def recv(self, size: int, flags: int = 0) -> bytes:
        try:
            data = super().recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            own = self.gettimeout() or BODY_SECONDS
            self._wait(select.POLLIN, min(self.body_deadline - time.monotonic(), own))
            data = super().recv(size, socket.MSG_DONTWAIT)
        if not data:  # gunicorn would hand over what there is of the body
            raise ConnectionResetError(errno.ECONNRESET, "the request is incomplete")
        return data

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.unsent += data
        self.flush()
        while len(self.unsent) > MAX_UNSENT:
            self._wait(select.POLLOUT, SILENCE_SECONDS)
            self.flush()

    def send(self, data: Any, flags: int = 0) -> int:
        self.sendall(data, flags)
        return len(data)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        file.seek(offset)
        return self.send(file.read(-1 if count is None else count))

    def _wait(self, event: int, seconds: float) -> None:
        poller = select.poll()
        poller.register(self, event)
        if seconds <= 0 or not self.take_place() or not poller.poll(min(seconds, SILENCE_SECONDS) * 1000):
            raise ConnectionResetError(errno.ECONNRESET, "the client is too slow")


class Connection(TConn):  # type: ignore[misc] # gunicorn has no annotations
    """A connection as gunicorn's threads know it, and what the worker knows besides."""

    sock: ClientSocket

    def __init__(self, cfg: Any, accepted: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, ClientSocket(accepted), client, server)
        self.received = bytearray()
        """What has arrived of the next requests."""
        self.framing = Framing()
        self.since, self.limit = 0.0, 0.0
        """Since when it waits, and how long it may."""
        self.ready: Any = None
        """What the worker does when the wait is over."""
        self._responded_at = self._deadline = 0.0
        self._acknowledged = 0
        self.is_idle = self.is_long = self.keeps_alive = self.reads = False

    def begin_wait(self, limit: float) -> None:
        self.since, self.limit = time.monotonic(), limit
        self.is_idle = limit > READING_SECONDS

    def begin_response(self) -> None:
        self.reads, self._responded_at = False, time.monotonic()
        self._deadline = self._responded_at + UNREAD_SECONDS + len(self.sock.unsent) / MIN_READ_RATE

    def follow_reader(self) -> None:
        """Wait on for a client that has read some of its response."""
        acknowledged = self.sock.count_acknowledged()
        if acknowledged > self._acknowledged:
            self._acknowledged = acknowledged
            now = time.monotonic()
            self.reads = now - self._responded_at > _BUFFERED_SECONDS
            self.begin_wait(min(READING_SECONDS if self.reads else SILENCE_SECONDS, self._deadline - now))

    def close(self, graceful: bool = False) -> None:
        if self.sock.unsent:
            self.sock.abort()
        elif hasattr(socket, "TCP_USER_TIMEOUT"):  # not on macOS
            # How long the kernel tries to send the rest. Earlier, it would cut off slow readers.
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(READING_SECONDS * 1000))
        super().close()

    def give_to_parser(self) -> None:
        """Hand over what has arrived, before a thread handles the connection."""
        self.init()
        self.parser.unreader.unread(bytes(self.received))
        self.received.clear()
        self.framing = Framing()
        self.sock.body_deadline = time.monotonic() + BODY_SECONDS

    def take_from_parser(self) -> None:
        """Take back what follows the request, if a thread has handled one."""
        if self.parser is not None:
            self.received += self.parser.unreader.take_buffered()
