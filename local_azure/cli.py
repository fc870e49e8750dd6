"""Runs an operator's command against a running `make run`: `python -m local_azure.cli DATA [ARGUMENT…]`."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from local_azure.published import read_published, service_environment
from local_azure.supervision import ROOT, RunError


def main() -> NoReturn:
    """Become the command, whose exit status is ours; it is 1 without a service."""
    data, *arguments = sys.argv[1:]
    try:
        environment = service_environment(read_published(Path(data)))
    except RunError as error:
        sys.exit(str(error))
    command = [sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 # nosec B606 # our own arguments


if __name__ == "__main__":
    main()
