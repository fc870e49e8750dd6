"""Clients that mean harm, in a process of their own: they are silent, drip, do not read, or do not close."""

import argparse
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

LARGE_FILE = "/bootstrap/static/css/bootstrap.min.css"
"""The largest static file: 232 kB."""
TICK_SECONDS = 1.0
_GET, _POST = b"GET %s HTTP/1.1\r\nHost: x\r\n", b"POST /api/token HTTP/1.1\r\nHost: x\r\n"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What each socket sends at first and in each second, whether it reads, and how many are new in each."""

    first: bytes = b""
    then: bytes = b""
    reads: int = 4096
    renewed: int = 0
    closes: bool = False


KINDS = {
    "silent": Kind(),
    "half a request line": Kind(first=b"GET /hea"),
    "dripping headers": Kind(first=_GET % b"/" + b"X-Drip: ", then=b"x"),
    "dripping body": Kind(first=_POST + b"Content-Length: 999\r\n\r\n", then=b" "),
    "dripping long body": Kind(first=_POST + b"Content-Length: 999999\r\n\r\n", then=b" "),
    "dripping chunks": Kind(first=_POST + b"Transfer-Encoding: chunked\r\n\r\n", then=b"1\r\n \r\n"),
    "false end of chunks": Kind(
        first=_POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\n\r\n0\r\n\r\n", then=b" "
    ),
    "never reading": Kind(first=(_GET % LARGE_FILE.encode() + b"\r\n") * 20, reads=0),
    "reading drop by drop": Kind(first=(_GET % LARGE_FILE.encode() + b"\r\n") * 20, reads=1),
    "never closing": Kind(first=_GET % b"/healthz" + b"Connection: close\r\n\r\n", reads=0),
    "fresh and silent": Kind(renewed=32),
    "connect and close": Kind(renewed=200, closes=True),
}


@contextlib.contextmanager
def attack(port: int, *kinds: str, count: int) -> Iterator[None]:
    """Attack with `count` sockets of each kind, which come back when they are closed."""
    command = [sys.executable, "-m", __name__, str(port), str(count), *kinds]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"connected\n"
            yield
        finally:
            process.kill()


class _Client:
    def __init__(self, port: int, kind: Kind) -> None:
        self._port, self.kind = port, kind
        self._socket = socket.socket()
        self.connect()

    def connect(self) -> None:
        self._socket.close()
        self._socket = socket.socket()
        if self.kind.reads < 2:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        self._socket.connect_ex(("127.0.0.1", self._port))
        self._sent = False

    def tick(self) -> None:
        try:
            if self.kind.closes:
                self.connect()
            elif not self._sent:
                self._sent = bool(self.kind.first) and self._socket.send(self.kind.first) > 0
            elif self.kind.then:
                self._socket.send(self.kind.then)
            if self.kind.reads and not self._socket.recv(self.kind.reads):
                self.connect()
            elif not self.kind.reads:
                self._socket.send(b"")
        except BlockingIOError:
            pass
        except OSError:
            self.connect()


def main() -> None:
    """Attack until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    arguments = parser.parse_args()
    clients = [
        _Client(arguments.port, KINDS[kind]) for kind in arguments.kinds for _ in range(arguments.count)
    ]
    time.sleep(0.1)
    for client in clients:
        client.tick()
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    tick = 0
    while True:
        began = time.monotonic()
        for kind in {client.kind for client in clients if client.kind.renewed}:
            own = [client for client in clients if client.kind is kind]
            for number in range(kind.renewed):
                own[(tick * kind.renewed + number) % len(own)].connect()
        for client in clients:
            client.tick()
        tick += 1
        time.sleep(max(0.0, TICK_SECONDS - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
