"""Installs Chromium for the browser tests.

A window of the headless shell takes a quarter of the full browser's processor time.
"""

from tools.debian import require_program
from tools.steps import run_step

PROGRAM = "chromium-headless-shell"

if __name__ == "__main__":
    run_step(lambda: require_program(PROGRAM, package=PROGRAM, needed_by="The browser tests"))
