"""Bundles the examples into examples/dist; the stamp examples/dist/.built is its last act."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path

from tools.node import run_npm
from tools.steps import Log, StepError, is_current, only_one, run_step, say

FOLDER = Path("examples")
DIST = FOLDER / "dist"
STAMP = DIST / ".built"


def bundle_examples(sources: list[Path]) -> None:
    """Make `DIST` anew with esbuild, unless it is current; raises StepError when that fails."""
    with only_one(FOLDER / "package.json") as lock:
        if all(is_current(STAMP, source) for source in sources):
            return
        say("Bundling the examples.")
        with suppress(FileNotFoundError):
            shutil.rmtree(DIST)
        log = Log(Path(".venv") / "bundle.log", lock)
        if not run_npm(log, FOLDER, "run", "build"):
            raise StepError(f"The examples could not be bundled ({log.last_error()}): see {log.path}.")
        STAMP.touch()


if __name__ == "__main__":
    run_step(lambda: bundle_examples([Path(source) for source in sys.argv[1:]]))
