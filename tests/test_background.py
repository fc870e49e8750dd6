"""Background tasks at process exit."""

import subprocess
import sys

from tests.support.service import ROOT

SCRIPT = """
import atexit
from trusted_service.background import BackgroundTasks
tasks = BackgroundTasks()
tasks.run(lambda: print("ran"))
atexit.register(lambda: tasks.run(lambda: print("too late")))
"""


def test_task_after_exit_is_dropped_silently() -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ran\n", "")
