"""Installs Debian packages if that needs no password."""

import os
import shutil
from pathlib import Path

from tools.steps import Log, StepError, say


def require_program(name: str, *, package: str, needed_by: str) -> None:
    """Install the package unless the program exists. Raises StepError if it cannot be installed."""
    if shutil.which(name) or Path("/usr/bin", name).exists():
        return
    try:
        install_package(package, Log(Path(".venv") / f"{package}.log"))
    except StepError as error:
        raise StepError(f"{needed_by} need {name}: {error}") from error


def install_package(package: str, log: Log) -> None:
    """Install `package` by apt-get, as root or through sudo without a password.

    Raises StepError if neither is possible, or if apt-get fails.
    """
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or not log.run(*as_root, "true"):
        raise StepError(f"install {package} by hand (on Debian, as root: apt-get install {package}).")
    say(f"Installing the Debian package {package}; this is done once.")
    # `env` comes after sudo, which does not pass variables on.
    apt_get = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    # A partly failed update (one source is down) may still be enough.
    log.run(*apt_get, "update")
    if not log.run(*apt_get, "install", "-y", "--no-install-recommends", package):
        raise StepError(f"apt-get could not install {package} ({log.last_error()}): see {log.path}.")
