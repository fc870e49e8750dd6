"""Bundles the examples into examples/dist and writes the stamp examples/dist/.built last."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path

from tools.node import run_npm
from tools.steps import Log, StepError, exclusive, is_current, run_step, say

FOLDER = Path("examples")
DIST = FOLDER / "dist"
STAMP = DIST / ".built"


def bundle_examples(sources: list[Path]) -> None:
    """Rebuild `DIST` with esbuild, unless it is current. Raises StepError."""
    with exclusive(FOLDER / "package.json") as lock:
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
