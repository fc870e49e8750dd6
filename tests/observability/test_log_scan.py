"""The log scan at the end of a test run finds secrets and fails the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.log_scan import LEAKED, scan
from tests.support.service import ROOT
from tests.support.settings import UNMEASURED

PLANTED = {
    "a-session-id-of-32-characters-00": "session id",
    # pragma: allowlist nextline secret (made up)
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2U==": "key",
}
HEADER, PAYLOAD = "eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJub2JvZHkifQ"

TEST = """
from tests.support import log_scan
from tests.support.service import Service

def test_nothing():
    service = Service({})
    service.log_path.write_text("nothing\\n" "%s\\n")
    log_scan.remember("planted", "a-planted-secret-of-some-length")
"""


def test_scan_finds_secrets_and_jwts_anywhere(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    for secret, name in PLANTED.items():
        lines = ['{"event": "x"}', f'{{"path": "/a{secret}b"}}', secret[:-1], secret]
        log.write_text("\n".join(lines), encoding="utf-8")
        assert list(scan(log, PLANTED)) == [f"{log}:{number}: {name}" for number in (2, 4)]
    log.write_text(f"x{HEADER}.{PAYLOAD}.c2ln\n{HEADER}\n/eyJ/eyJ.eyJ\n", encoding="utf-8")
    assert list(scan(log, {})) == [f"{log}:1: something like a JWT"]


@pytest.mark.parametrize(
    ("line", "processes"),
    [
        ("harmless", "0"),
        ("x a-planted-secret-of-some-length", "0"),
        ("harmless", "2"),
        (f"{HEADER}.{PAYLOAD}.", "2"),
    ],
)
def test_secret_in_a_log_fails_the_run(tmp_path: Path, line: str, processes: str) -> None:
    test = tmp_path / "test_planted.py"
    test.write_text(TEST % line, encoding="utf-8")
    options = ["-q", "-n", processes, "--rootdir", str(tmp_path)]
    plugins = ["-p", "no:cacheprovider", "-p", "xdist.plugin", "-p", "tests.support.log_scan"]
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugins, str(test)],
        cwd=ROOT,
        env=os.environ | UNMEASURED | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert "1 passed" in completed.stdout
    assert completed.returncode == (0 if line == "harmless" else LEAKED), completed.stdout
    assert ("service.log:2: " in completed.stdout) == (line != "harmless")
    assert "a-planted-secret" not in completed.stdout
