"""Schemathesis makes requests up from the description, good and bad, and holds every answer against it.

A local Azure of its own: what is made up blocks and erases users.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.desk import ROLE, bearer
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.together import wait_until

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
RUN_SECONDS = 110
FEWEST_CASES = 300
ERASE = "deleteMe"

REACHED = {
    "browser": {200, 204, 400, 403, 404, 405, 415},
    "bearer": {200, 204, 400, 403, 404, 405, 415},
    "administrator": {200, 204, 400, 404, 405, 415},
    "anonymous": {200, 401, 404, 405},
}
"""What each kind of caller is answered; the other statuses take more than requests (limits, faults)."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    with own_azure() as running:
        # The index of users is built by the first request that needs it, which may be told to wait.
        desk = running.new_desk()
        wait_until(lambda: desk.person.get("/api/admin/users").status_code == 200)
        yield running


def headers_of(own: OwnAzure, caller: str) -> dict[str, str]:
    """What somebody new of this kind sends."""
    if caller == "anonymous":
        return {}
    if caller == "browser":
        person = own.new_user()
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in person.http.cookies)
        return person.csrf_headers() | {"Cookie": cookie}
    return bearer(own.azure, own.new_person(roles=[ROLE] if caller == "administrator" else []))


def run(own: OwnAzure, caller: str, folder: Path, *arguments: str) -> tuple[int, Counter[int]]:
    """Run it as somebody new; return the number of cases, none of which may fail, and of each status."""
    report = folder / "report.har"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run"]
    command += [f"{own.service.url}/openapi.json", "--report-har-path", str(report), *arguments]
    for name, value in headers_of(own, caller).items():
        command += ["--header", f"{name}: {value}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counted = re.search(r"(\d+) generated, (\d+) passed", ended.stdout)
    assert counted is not None
    assert counted[1] == counted[2], ended.stdout
    entries = json.loads(report.read_text(encoding="utf-8"))["log"]["entries"]
    return int(counted[1]), Counter(entry["response"]["status"] for entry in entries)


@pytest.mark.parametrize("caller", REACHED)
def test_no_made_up_request_is_answered_otherwise_than_described(
    own: OwnAzure, tmp_path: Path, caller: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    if caller == "browser":
        # Whoever erases themselves is signed out, so that comes last, and as somebody else.
        cases, statuses = run(own, caller, tmp_path, "--exclude-operation-id", ERASE)
        more_cases, more_statuses = run(own, caller, tmp_path, "--include-operation-id", ERASE)
        cases, statuses = cases + more_cases, statuses + more_statuses
    else:
        cases, statuses = run(own, caller, tmp_path)
    record_testsuite_property(f"schemathesis cases as {caller}", cases)
    assert cases >= FEWEST_CASES
    assert set(statuses) >= REACHED[caller]
    assert not {status for status in statuses if status >= 500}
