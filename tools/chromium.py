"""Sees to it that there is a Chromium for the tests that use a real browser."""

import shutil
from pathlib import Path

from tools.debian import install_package
from tools.steps import Log, StepError, run_step


def install_chromium() -> None:
    """Install Debian's Chromium unless there is one; raises StepError when it can't be installed."""
    if shutil.which("chromium") or Path("/usr/bin/chromium").exists():
        return
    try:
        install_package("chromium", Log(Path(".venv") / "chromium.log"))
    except StepError as error:
        raise StepError(f"The browser tests drive Chromium: {error}") from error


if __name__ == "__main__":
    run_step(install_chromium)
