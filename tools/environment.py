"""Rebuilds .venv with the packages of requirements-dev.txt, and writes the stamp .venv/.installed last.

It always starts from scratch, so that interrupted installations and removed packages leave nothing behind.
"""

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tools.debian import install_package
from tools.steps import Log, StepError, exclusive, is_current, run_step, say

VENV = Path(".venv")
STAMP = VENV / ".installed"
REQUIREMENTS = Path("requirements-dev.txt")
PYTHON = str(VENV / "bin" / "python")


def install_environment() -> None:
    """Create the environment, unless another process just did. Raises StepError."""
    with exclusive(REQUIREMENTS) as lock:
        if is_current(STAMP, REQUIREMENTS):
            return
        say("Installing the Python packages into .venv; this is done once and takes a minute or two.")
        STAMP.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(VENV)
        VENV.mkdir()
        log = Log(VENV / "install.log", lock)
        make_venv(log)
        # Wheels only: no compiler is needed, and nothing of a package runs while it is installed.
        pinned = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS))
        install_packages([PYTHON, "-m", "pip"], pinned, log)
        STAMP.touch()


def make_venv(log: Log) -> None:
    """Create a virtual environment that has pip. Raises StepError if this Python cannot."""
    venv = (sys.executable, "-m", "venv", str(VENV))
    if log.run(*venv):
        return
    # Debian packages `ensurepip` separately; the system's pip can install pip instead.
    system_pip = (sys.executable, "-m", "pip", "--python", PYTHON)
    if log.run(*venv, "--without-pip") and log.run(*system_pip, "--version"):
        install_packages(system_pip, ("pip",), log)
        return
    package = f"python3.{sys.version_info.minor}-venv"
    try:
        install_package(package, log)
    except StepError as error:
        raise StepError(f"This Python cannot make virtual environments: {error}") from error
    if not log.run(*venv):
        raise StepError(
            f"{sys.executable} cannot make virtual environments ({log.last_error()}): see {log.path}."
        )


def install_packages(pip: Sequence[str], packages: Sequence[str], log: Log) -> None:
    """Install without questions. Raises StepError if a package cannot be downloaded."""
    quiet = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
    if not log.run(*pip, "install", *quiet, *packages):
        raise StepError(f"The Python packages could not be downloaded ({log.last_error()}): see {log.path}.")


if __name__ == "__main__":
    run_step(install_environment)
