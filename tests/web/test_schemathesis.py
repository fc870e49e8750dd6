"""Schemathesis generates requests from the OpenAPI description and checks every response against it.

It has a local Azure of its own, because its requests block and erase users.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.admin_client import ROLE, bearer
from tests.support.concurrency import wait_until
from tests.support.own_azure import OwnAzure, own_azure

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
REACHED = {
    "browser": {200, 204, 400, 403, 404, 405, 415},
    "bearer": {200, 204, 400, 403, 404, 405, 415},
    "administrator": {200, 204, 400, 404, 405, 415},
    "anonymous": {200, 401, 404, 405},
}
"""The statuses that each kind of caller must get; others need more than requests (limits, faults)."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    with own_azure() as running:
        # The first request that needs the user index builds it, and may get 503 meanwhile.
        admin = running.new_admin()
        wait_until(lambda: admin.person.get("/api/admin/users").status_code == 200)
        yield running


def run(own: OwnAzure, caller: str, folder: Path, *arguments: str) -> tuple[int, set[int]]:
    """Run it as a new caller, check that no case fails, and return the number of cases and the statuses."""
    if caller == "browser":
        person = own.new_user()
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in person.http.cookies)
        headers = person.csrf_headers() | {"Cookie": cookie}
    elif caller == "anonymous":
        headers = {}
    else:
        headers = bearer(own.azure, own.new_person(roles=[ROLE] if caller == "administrator" else []))
    report = folder / "report.har"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run"]
    command += [f"{own.service.url}/openapi.json", "--report-har-path", str(report), *arguments]
    command += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    summary = re.search(r"(\d+) generated, (\d+) passed", completed.stdout)
    assert summary is not None
    assert summary[1] == summary[2], completed.stdout
    entries = json.loads(report.read_text(encoding="utf-8"))["log"]["entries"]
    return int(summary[1]), {entry["response"]["status"] for entry in entries}


@pytest.mark.parametrize("caller", REACHED)
def test_generated_requests_get_documented_responses(
    own: OwnAzure, tmp_path: Path, caller: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    if caller == "browser":
        # Erasing the caller signs them out, so it comes last, as another caller.
        cases, statuses = run(own, caller, tmp_path, "--exclude-operation-id", "deleteMe")
        more_cases, more_statuses = run(own, caller, tmp_path, "--include-operation-id", "deleteMe")
        cases, statuses = cases + more_cases, statuses | more_statuses
    else:
        cases, statuses = run(own, caller, tmp_path)
    record_testsuite_property(f"schemathesis cases as {caller}", cases)
    assert cases >= 300
    assert statuses >= REACHED[caller]
    assert max(statuses) < 500
