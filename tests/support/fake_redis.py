"""A server in place of Redis that responds to every command with the same bytes."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def fake_redis(response: bytes) -> Iterator[int]:
    """Serve on a loopback port, which is yielded."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while self.request.recv(65_536):
                    self.wfile.write(response)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
