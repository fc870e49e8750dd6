"""What ends TLS in front of the service, as App Service does."""

import contextlib
import socket
import socketserver
import ssl
import threading
from pathlib import Path
from typing import Self

import trustme

from tests.support.gate import copy


class TlsFront:
    """Listens at `url` with a certificate of an authority of its own, and passes on to a local port."""

    def __init__(self, folder: Path) -> None:
        self.ca_path = folder / "ca.pem"
        self.target = 0
        """The port to pass on to; to be set before the first connection."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        front = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(self.request, server_side=True) as client,
                ):
                    front._pass(client)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"https://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _pass(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()
