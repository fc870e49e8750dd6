"""Steps of an installation: one at a time, output to a log, one plain line when something fails."""

import fcntl
import os
import signal
import subprocess  # nosec B404 # our own programs, never through a shell
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


class StepError(Exception):
    """A step failed; the message is the one line that the user sees."""


class Log:
    """Runs commands without a terminal and keeps what they print in one file."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        self.path = path
        self._lock = lock

    def run(self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> bool:
        """Run a command; return whether it ended with exit code 0. A missing program counts as failed."""
        with self.path.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            try:
                ended = subprocess.run(  # nosec B603 # our own arguments
                    command,
                    check=False,
                    cwd=cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # An installer whose parent was killed holds the lock until it ends by itself.
                    pass_fds=[] if self._lock is None else [self._lock],
                )
            except OSError as error:
                log.write(f"{error}\n")
                return False
        return ended.returncode == 0

    def last_error(self) -> str:
        """Return the last line that starts like an error, or else the last line."""
        lines = [
            line.strip() for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        ]
        lines = [line for line in lines if line] or ["it printed nothing"]
        errors = [line for line in lines if line.lower().startswith(("error", "e:"))]
        return (errors or lines)[-1]


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Wait until no other process is in this block for `path`, and yield the file descriptor of the lock."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another installation of {path} is in progress: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def is_current(stamp: Path, source: Path) -> bool:
    """Return, as make would, whether `stamp` exists and is not older than `source`."""
    return stamp.exists() and stamp.stat().st_mtime >= source.stat().st_mtime


def run_step(step: Callable[[], None]) -> NoReturn:
    """Run a module's main step and exit: 0, or 1 after one line if it raises StepError or OSError."""
    # Ctrl-C ends an installation at once and without a traceback; the next one starts over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        step()
    except (StepError, OSError) as error:
        say(str(error))
        sys.exit(1)
    sys.exit(os.EX_OK)
