"""Starts the programs of a run, watches them, and stops them in order."""

import ctypes
import functools
import os
import signal
import subprocess  # nosec B404 # our own programs, never through a shell
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


class RunError(Exception):
    """The service cannot run; the message is shown to the user."""


class StopRequestedError(Exception):
    """A signal requested a stop."""


class StopSignals:
    """Remembers that a signal requested a stop; ignores further ones, so that shutdown stays in order."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, *_: object) -> None:
        self.requested = True

    def wait(
        self, ready: Callable[[], bool], processes: Mapping[str, subprocess.Popen[bytes]], seconds: float
    ) -> None:
        """Return once `ready()`. Raises StopRequestedError on a signal, RunError on an exit or a timeout."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.requested:
                raise StopRequestedError
            for name, process in processes.items():
                if process.poll() is not None:
                    raise RunError(f"The {name} stopped unexpectedly (exit code {process.returncode}).")
            if time.monotonic() > deadline:
                raise RunError(f"The {' and the '.join(processes)} did not respond within {seconds} s.")
            time.sleep(0.1)


@contextmanager
def start_program(
    command: list[str], env: Mapping[str, str], *, stop_seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` from the root of the project, and stop it at the end, by force after `stop_seconds`.

    It gets its own session, so that Ctrl-C in the terminal reaches only us.
    """
    die_with_us = functools.partial(_die_with_parent, os.getpid()) if _libc else None
    process = subprocess.Popen(  # nosec B603 # our own arguments
        command, cwd=ROOT, env=env, start_new_session=True, preexec_fn=die_with_us
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(stop_seconds)
        # End the processes of its session that outlived it or did not end in time.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _die_with_parent(parent: int) -> None:
    """Ask the kernel, in the child, for a SIGTERM when the parent ends, even by SIGKILL (prctl(2))."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before the call
        os._exit(1)
