"""Runs the service as in production: gunicorn with its own configuration, settings in the environment."""

import os
import re
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
from tests.support.settings import OF_ITS_OWN, UNMEASURED

ROOT = Path(__file__).parents[2]
START_SECONDS = 30
STOP_SECONDS = 30


class ServiceError(Exception):
    """The service did not start."""


class Service:
    """One gunicorn, with as many workers as asked for. Its log is in `log_path`, line for line as JSON.

    A run has a hundred of them that do the same. Those that are `measured` tell which lines tests run.
    """

    def __init__(self, settings: Mapping[str, str], *, workers: int = 1, measured: bool = False) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.log_path = Path(tempfile.mkdtemp(prefix="service-")) / "service.log"
        self._workers = workers
        defaults = OF_ITS_OWN | {"PUBLIC_URL": self.url}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GUNICORN")}
        self.env = inherited | defaults | ({} if measured else UNMEASURED) | dict(settings)
        self.process: subprocess.Popen[bytes] | None = None
        log_scan.watch(self.log_path)
        log_scan.remember_settings(self.env)

    def start(self) -> Self:
        """Start it and wait until it answers; ServiceError with its log otherwise."""
        # Signals reach the workers through gunicorn's master alone, hence a session of its own.
        command = [sys.executable, "-m", "gunicorn", "wsgi:app"]
        command += ["--bind", f"127.0.0.1:{self.port}", "--workers", str(self._workers)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServiceError(self.log())
            time.sleep(0.05)
        return self

    def answers(self) -> bool:
        """Whether /healthz answers 200."""
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """Ask it to stop, and wait for its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def kill(self) -> None:
        """Kill master and workers as a crash would: nothing is finished, nothing is said."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.process.wait(STOP_SECONDS)

    def log(self) -> str:
        """What it has logged until now."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def request_lines(log: str, request_id: str) -> list[str]:
    """The lines of a log that belong to one request."""
    return [line for line in log.splitlines() if re.search(rf'"request_id": "{request_id}"', line)]
