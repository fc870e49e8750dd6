"""Sees to it that there is a Chromium for the tests that use a real browser.

The one without a screen: a window of it costs a quarter of the processor time of the whole browser's.
"""

from tools.debian import require_program
from tools.steps import run_step

PROGRAM = "chromium-headless-shell"

if __name__ == "__main__":
    run_step(lambda: require_program(PROGRAM, package=PROGRAM, needed_by="The browser tests"))
