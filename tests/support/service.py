"""Runs the service as in production: gunicorn with its own configuration, settings in the environment."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import requests

from tests.support import log_scan
from tests.support.settings import OWN_SETTINGS, UNMEASURED

ROOT = Path(__file__).parents[2]
START_SECONDS = 30
STOP_SECONDS = 30


class ServiceError(Exception):
    """The service did not start."""


class Service:
    """One gunicorn, which logs JSON lines to `log_path`; coverage includes it if `measured`."""

    def __init__(self, settings: Mapping[str, str], *, workers: int = 1, measured: bool = False) -> None:
        self.folder = ROOT
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.log_path = Path(tempfile.mkdtemp(prefix="service-")) / "service.log"
        self._workers, self._measured = workers, measured
        defaults = OWN_SETTINGS | {"PUBLIC_URL": self.url}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GUNICORN")}
        self.env = inherited | defaults | ({} if measured else UNMEASURED) | dict(settings)
        self.process: subprocess.Popen[bytes] | None = None
        log_scan.watch(self.log_path)
        log_scan.remember_settings(self.env)

    def start(self) -> Self:
        """Start the service and wait until it responds. Raises ServiceError with its log."""
        # Its own session, because signals must reach the workers through gunicorn's master alone.
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServiceError(self.log())
            time.sleep(0.05)
        return self

    def command(self) -> list[str]:
        """Return the command that serves on `port`."""
        program = [sys.executable, "-m", "gunicorn", "wsgi:app"]
        return [*program, "--bind", f"127.0.0.1:{self.port}", "--workers", str(self._workers)]

    def is_healthy(self) -> bool:
        """Whether /healthz responds with 200."""
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(by)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def kill(self) -> None:
        """Kill master and workers, as a crash would."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.process.wait(STOP_SECONDS)

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        # At SIGTERM gunicorn waits 6 s for connections that clients keep open. At SIGINT what
        # coverage has measured is lost.
        self.stop(signal.SIGTERM if self._measured else signal.SIGINT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request_lines(log: str, request_id: str) -> list[str]:
    """Return the log lines of one request."""
    return [line for line in log.splitlines() if f'"request_id": "{request_id}"' in line]
