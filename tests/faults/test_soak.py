"""A short version of `make soak` breaks no promise and reports its counts."""

import re
import subprocess
import sys

import pytest

from tests.support.service import ROOT

pytestmark = pytest.mark.timeout(240)

REPORT = ("lost       = 0", "duplicate identities = 0", "violations = 0")


def test_short_soak_breaks_no_promise() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.3", "--users", "12", "--seed", "7"]
    command += ["--health-seconds", "10"]  # other tests run at the same time
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in REPORT if line not in done.stdout.splitlines()] == []
    counted = dict(re.findall(r"^(\w+) +=? *(\d+)", done.stdout, re.MULTILINE))
    assert all(int(counted[name]) > 0 for name in ("requests", "faults", "attacks", "kills")), counted
