"""Alerts: their queries, as deployed, run on real telemetry; each fault fires its own and no other."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.settings.test_certificates import certificate, private
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.jobs import JobAdmin
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.service import ROOT, Service
from tests.support.storage_proxy import Fault
from tests.support.telemetry import INFRA, Tables, Telemetry, find_firing, read_alerts

CANARY = {"canary-absent", "canary-failed"}
"""Alerts of the canary, which has its own rhythm."""
EACH_UPSTREAM = ["Communication Services", "Table Storage", "Entra ID"]
DURATION = re.compile(r"P(\d+D|T\d+[HM])")

Plant = Callable[[World], object]


@dataclass(frozen=True)
class Scene:
    """The upstreams, and a user who is signed in and has an identity."""

    world: World
    person: Person
    csrf: dict[str, str]


def acs(kind: str, operation: str = "issue", **members: object) -> Plant:
    members = {"times": None} | members
    return lambda world: world.azure.plant_fault("acs", operation, kind, **members)


def entra(kind: str, **members: object) -> Plant:
    return lambda world: world.azure.plant_fault("entra", "token", kind, times=None, **members)


def storage(**members: object) -> Plant:
    return lambda world: world.storage.plant(Fault(**members))  # type: ignore[arg-type]


def issue(scene: Scene, times: int = 3) -> None:
    run_concurrently([partial(scene.person.token, csrf=scene.csrf)] * times)


def sign_in(scene: Scene) -> None:
    people = [scene.world.new_person() for _ in range(3)]
    run_concurrently([person.sign_in for person in people])


def stay_quiet(scene: Scene) -> None:
    person = scene.person
    for response in (person.signed_in().token(), person.get("/account"), person.sign_out()):
        assert response.status_code < 400


def lose_identities(scene: Scene, count: int = 1) -> None:
    for person in [scene.world.new_user() for _ in range(count)]:
        scene.world.lose_identity(scene.world.identity_of(person))
        person.token()


def use_the_wrong_resource(scene: Scene) -> None:
    scene.world.azure.swap_resources()
    try:
        issue(scene)
    finally:
        scene.world.azure.swap_resources()


def delete_by_job(scene: Scene) -> None:
    job_admin = JobAdmin(scene.world.admin.person)
    job_admin.finish(job_admin.draft(job_admin.select("delete", [scene.person.key])), seconds=60)


def create(scene: Scene) -> None:
    scene.world.new_person().signed_in().token()


def revoke(scene: Scene) -> None:
    scene.person.post("/api/me/revoke", headers=scene.csrf)


def nothing(_world: World) -> None:
    """Plant no fault."""


ACS, TABLES, ENTRA = "communication-services-failing", "table-storage-failing", "entra-id-failing"
SESSIONS = {"method": "GET", "table": "sessions"}
FAULTS: dict[str, tuple[Plant, Callable[[Scene], object], set[str]]] = {
    "none": (nothing, stay_quiet, set()),
    "one failure": (acs("status", status=503, times=1), issue, set()),
    "ACS 503": (acs("status", status=503), issue, {ACS}),
    "ACS 401": (acs("status", status=401, code="Denied"), issue, {ACS}),
    "ACS 404 of a gateway": (acs("status", status=404), issue, {ACS}),
    "ACS resets": (acs("reset"), issue, {ACS}),
    "ACS hangs": (acs("hang"), issue, {ACS}),
    "ACS 429": (acs("status", status=429), issue, {"upstream-throttled"}),
    "ACS 503, many": (acs("status", status=503), partial(issue, times=12), {ACS, "server-errors"}),
    "storage 503": (storage(kind="status", **SESSIONS), issue, {TABLES}),
    "storage 403": (storage(kind="status", status=403, **SESSIONS), issue, {TABLES}),
    "storage hangs": (storage(kind="hang", **SESSIONS), issue, {TABLES}),
    "storage busy": (
        storage(kind="status", code="ServerBusy", **SESSIONS), issue, {"upstream-throttled"}
    ),
    "Entra ID 500": (entra("status", status=500), sign_in, {ENTRA}),
    "Entra ID hangs": (entra("hang"), sign_in, {ENTRA}),
    "Entra ID 429": (entra("status", status=429), sign_in, {"upstream-throttled"}),
    "secret expired": (entra("refuse", code="AADSTS7000222"), sign_in, {"app-registration-refused"}),
    "certificate unknown": (entra("refuse", code="AADSTS700027"), sign_in, {"app-registration-refused"}),
    "credential unknown": (entra("refuse", code="AADSTS70021"), sign_in, {"app-registration-refused"}),
    "person not assigned": (entra("refuse", code="AADSTS50105"), sign_in, set()),
    "identity lost": (nothing, lose_identities, {"identity-replaced"}),
    # One process replaces five in ten minutes.
    "identities lost": (
        nothing, partial(lose_identities, count=8), {"identity-replaced", "replacement-stopped"}
    ),
    "create without response": (acs("fail-after-commit", "create", times=1), create, {"identity-orphaned"}),
    "outcome not audited": (
        storage(kind="status", method="P", table="audit", skip=2), revoke, {"audit-not-written"}
    ),
    "start not audited": (storage(kind="status", method="P", table="audit", times=1), revoke, set()),
    "wrong resource": (nothing, use_the_wrong_resource, {"wrong-resource"}),
    "deletion fails in a job": (acs("status", "delete", status=503), delete_by_job, {"job-failed"}),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_fires_its_alert_alone(telemetry: Telemetry, fault: str) -> None:
    world = telemetry.world
    plant, act, expected = FAULTS[fault]
    person = world.new_user()
    scene = Scene(world, person, person.csrf_headers())
    assert world.admin.csrf
    telemetry.settle()
    world.azure.clear_envelopes()
    plant(world)
    act(scene)
    assert find_firing(telemetry.settle()) - CANARY == expected


def test_defect_fires_its_alert(telemetry: Telemetry) -> None:
    world = telemetry.world
    person = world.new_user()
    telemetry.settle()
    world.azure.clear_envelopes()
    world.change_row(person, IndexKeys="{")
    assert person.sign_in().status_code == 500
    assert find_firing(telemetry.settle()) - CANARY == {"internal-error"}
    world.change_row(person, IndexKeys="[]")


def test_expiring_certificate_fires_its_alert(telemetry: Telemetry, tmp_path: Path) -> None:
    path, world = tmp_path / "client.pem", telemetry.world
    path.write_bytes(private() + certificate(ends=9))
    settings = {name: value for name, value in world.settings.items() if name != "ENTRA_CLIENT_SECRET"}
    telemetry.settle()
    world.azure.clear_envelopes()
    with Service(settings | {"ENTRA_CLIENT_CERTIFICATE_PATH": str(path)}):
        wait_until(lambda: "certificate-expiring" in find_firing(world.azure.list_envelopes()))
    assert find_firing(world.azure.list_envelopes()) - CANARY == {"certificate-expiring"}


RUN_CANARY = """
import sys
import structlog
from trusted_service.observability import logs, metrics, telemetry

logs.configure("json")
telemetry.configure(sys.argv[1])
for result in sys.argv[2:]:
    metrics.canary(result, "Entra ID" if result == "failed" else "")
    if result == "failed":
        structlog.get_logger("trusted_service").error("canary_failed", upstream="Entra ID")
"""


@pytest.mark.parametrize(
    ("results", "seconds", "expected"),
    [
        (["ok"], 0, set()),
        (["waiting"], 0, set()),
        (["ok", "failed"], 0, set()),
        (["failed"] * 8, 3, set()),  # several processes meet the same short failure
        (["failed"] * 2, 31, {"canary-failed"}),
    ],
)
def test_canary_alerts_tell_failure_from_silence(
    telemetry: Telemetry, results: list[str], seconds: int, expected: set[str]
) -> None:
    """The failures are so many seconds apart."""
    world = telemetry.world
    assert "canary-absent" in find_firing([])
    world.azure.clear_envelopes()
    command = [sys.executable, "-c", RUN_CANARY, world.azure.telemetry_connection_string, *results]
    subprocess.run(command, cwd=ROOT, env=world.service.env, check=True, timeout=60)
    envelopes = [envelope for envelope in world.azure.list_envelopes() if "canary" in json.dumps(envelope)]
    failures = [envelope for envelope in envelopes if "canary_failed" in json.dumps(envelope)]
    assert len(failures) == results.count("failed")
    begin = datetime.now(UTC)
    times = {id(one): begin + number * timedelta(seconds=seconds) for number, one in enumerate(failures)}
    moved = [{**one, "time": times.get(id(one), begin).isoformat()} for one in envelopes]
    assert find_firing(moved) == expected


def test_workbook_queries_run_on_telemetry(telemetry: Telemetry) -> None:
    world = telemetry.world
    world.new_user().token()
    world.azure.plant_fault("acs", "issue", "status", status=503)
    world.new_user().token()
    tables = Tables(telemetry.settle())
    found = {name: tables.query(query) for name, query in read_workbook().items()}
    for name in ("Tokens issued", "Requests by status", "Slowest routes", "Failures of upstreams"):
        assert found[name], name
    upstreams = {row["upstream"] for row in found["Upstream calls: mean duration in seconds"]}
    assert upstreams == set(EACH_UPSTREAM)


def read_workbook() -> dict[str, str]:
    workbook = json.loads((INFRA / "workbook.json").read_text(encoding="utf-8"))
    return {item["name"]: item["content"]["query"] for item in workbook["items"] if item["type"] == 3}


def test_union_arms_have_equal_types() -> None:
    """Otherwise Kusto makes two columns of one, and finds neither by its name."""
    queries = ["\n".join(alert["query"]) for alert in read_alerts()] + [*read_workbook().values()]
    unions = [re.findall(r"^ +\((.+)\),?$", query, re.MULTILINE) for query in queries if "union" in query]
    assert unions
    for arms in unions:
        assert len(arms) > 1
        first, *others = (Tables([]).find_types(arm) for arm in arms)
        assert all(other == first for other in others), arms


def test_every_alert_is_explained() -> None:
    guide = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    assert re.findall(r'<a id="alert-([a-z-]+)">', guide) == [alert["name"] for alert in read_alerts()]


@pytest.mark.parametrize("alert", read_alerts(), ids=lambda alert: str(alert["name"]))
def test_alert_looks_at_every_moment(alert: dict[str, Any]) -> None:
    assert alert.keys() == {"name", "title", "severity", "frequency", "window", "description", "query"}
    frequency, window = (_minutes(alert[name]) for name in ("frequency", "window"))
    assert frequency <= window <= 2 * 24 * 60


def _minutes(duration: str) -> int:
    """https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-create-log-alert-rule"""
    assert DURATION.fullmatch(duration)
    return int(re.sub(r"\D", "", duration)) * {"D": 24 * 60, "H": 60, "M": 1}[duration[-1]]
