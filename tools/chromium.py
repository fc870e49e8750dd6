"""Sees to it that there is a Chromium for the tests that use a real browser."""

from tools.debian import require_program
from tools.steps import run_step

if __name__ == "__main__":
    run_step(lambda: require_program("chromium", package="chromium", needed_by="The browser tests"))
