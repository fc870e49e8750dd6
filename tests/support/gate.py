"""TCP forwarders on the loopback: a gate that can close, and a front that terminates TLS."""

import contextlib
import socket
import socketserver
import ssl
import threading
from pathlib import Path
from typing import Self

import trustme

CHUNK = 65536


class Forwarder:
    """Listens on `port`, and forwards each connection to the port `target`."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.garbles = False  # what the target sends
        forwarder = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                forwarder.handle(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=_copy, args=(server, client, self), daemon=True)
            back.start()
            _copy(client, server)
            back.join()


class Gate(Forwarder):
    """A forwarder that starts open; closed, it accepts connections and never responds."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._open = threading.Event()
        self._refusals = 0
        self._open.set()

    def __exit__(self, *error: object) -> None:
        self._open.set()
        super().__exit__(*error)

    def open(self) -> None:
        """Let new connections through; those that waited are closed."""
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def hang_up(self, times: int) -> None:
        """End the next `times` connections at once."""
        self._refusals = times

    def handle(self, client: socket.socket) -> None:
        if self._refusals:
            self._refusals -= 1
        elif not self._open.is_set():
            self._open.wait()
        else:
            super().handle(client)


class TlsFront(Forwarder):
    """Terminates TLS at `url`, as App Service does; set `target` before the first connection."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.ca_path = folder / "ca.pem"
        self.url = f"https://localhost:{self.port}"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_path)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)

    def handle(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(client, server_side=True) as plain:
            super().handle(plain)


def _copy(source: socket.socket, target: socket.socket, by: Forwarder | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data[::-1] if by and by.garbles else data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
