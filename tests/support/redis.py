"""A real Redis server, with a password and without persistence."""

import secrets
import signal
import subprocess
import tempfile
from typing import Self

import redis

from tests.support.concurrency import wait_until
from tests.support.log_scan import remember
from tests.support.service import free_port
from tools.redis import PROGRAM
from trusted_service.azure.shares import Shares

STOP_SECONDS = 10

_pools: list[redis.ConnectionPool] = []


class Redis:
    """A server on one loopback port, which stays the same across restarts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(16)
        remember("password of Redis", self.password)
        self.uri = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.uri)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the server and wait until it responds."""
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "requirepass": self.password}
        arguments = [argument for name, value in options.items() for argument in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            ["/usr/bin/redis-server", *arguments],  # under this name the program acts as a server
            executable=f"/usr/bin/{PROGRAM}",
            cwd=tempfile.mkdtemp(prefix="redis-"),
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.responds)
        return self

    def responds(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        """Stop the server; its counts are lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.client.close()


def closed_later(shares: Shares) -> Shares:
    """Have `close_pools` close its connections, or the garbage collector would, in another test."""
    if shares.redis is not None:
        _pools.append(shares.redis)
    return shares


def close_pools() -> None:
    while _pools:
        _pools.pop().disconnect()
