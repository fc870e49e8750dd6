"""A gate on the way to a TCP server: open it lets everything through, closed it accepts and says nothing."""

import contextlib
import socket
import socketserver
import threading
from typing import Self

CHUNK = 65536


class Gate:
    """Listens on `port` of the loopback in front of `target`; starts open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = threading.Event()
        self._stopped = threading.Event()
        self._refusals = 0
        self._open.set()
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                gate._pass(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._open.set()
        self._server.shutdown()
        self._server.server_close()

    def open(self) -> None:
        """Let new connections through; those that waited are closed."""
        self._open.set()

    def close(self) -> None:
        """Say nothing on new connections."""
        self._open.clear()

    def hang_up(self, times: int) -> None:
        """End the next connections without a word, so many of them."""
        self._refusals = times

    def _pass(self, client: socket.socket) -> None:
        if self._refusals:
            self._refusals -= 1
            return
        if not self._open.is_set():
            self._open.wait()
            return
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
