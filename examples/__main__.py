"""Serves the examples to browsers on this machine: `python -m examples --settings FILE [--port 8100]`.

Needs only Python, neither Node.js nor packages.
"""

import argparse
import errno
import json
import signal
import socket
import sys
import threading
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from examples.policy import Settings, write_policy

DIST = Path(__file__).parent / "dist"
REQUIRED = ("serviceUrl", "clientId", "authority", "scope", "communicationEndpoint")
REDIRECT_PAGE = "/redirect.html"
# Loopback only; browsers resolve `localhost` to either of these.
HOSTS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class Server(ThreadingHTTPServer):
    """Serves the pages on one loopback address."""

    def __init__(self, host: str, port: int, settings: Settings) -> None:
        self.address_family = HOSTS[host]
        self.settings = settings
        super().__init__((host, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that disconnect early; report other errors as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of `DIST`, and the settings, which hold no secret."""

    server: Server
    protocol_version = "HTTP/1.1"
    # The system's table of types may be incomplete or wrong.
    extensions_map = {  # noqa: RUF012 - as in the base class
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        "": "application/octet-stream",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(DIST))

    def do_GET(self) -> None:
        if self.path != "/settings.json":
            super().do_GET()
            return
        body = json.dumps(self.server.settings).encode("utf-8")
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        redirect = urlsplit(self.path).path == REDIRECT_PAGE
        self.send_header("Content-Security-Policy", write_policy(self.server.settings, framed=redirect))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store" if redirect else "no-cache")
        super().end_headers()

    def list_directory(self, path: object) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: `make run` shows the log of the service only."""


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples", description="Serves the examples.")
    parser.add_argument("--settings", type=Path, required=True, metavar="FILE", help="see examples/README.md")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--quiet", action="store_true", help="do not print the address")
    arguments = parser.parse_args()
    # Before any thread starts and inherits the mask, so that only `sigwait` below receives these signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        settings = read_settings(arguments.settings)
        servers = open_servers(arguments.port, settings)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"examples: {error}\n")
        return 1
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    if not arguments.quiet:
        sys.stdout.write(f"Examples: http://localhost:{arguments.port}\n")
        sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


def read_settings(path: Path) -> Settings:
    """Read the settings from a file. Raises OSError if unreadable, ValueError if a setting is missing."""
    settings: Settings = json.loads(path.read_text(encoding="utf-8"))
    if missing := [name for name in REQUIRED if not settings.get(name)]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return settings


def open_servers(port: int, settings: Settings) -> list[Server]:
    """Listen on `port` on each loopback address. Raises OSError if another program uses it."""
    servers = [Server("127.0.0.1", port, settings)]
    try:
        servers.append(Server("::1", port, settings))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
    return servers


if __name__ == "__main__":
    sys.exit(main())
