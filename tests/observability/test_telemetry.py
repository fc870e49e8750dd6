"""Telemetry: every request, call and count arrives under one role, without secrets and personal data."""

import json
import os
import pwd
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from tests.observability.test_log_lines import JWT, plant_everywhere
from tests.support import log_scan
from tests.support.admin_client import bearer, call
from tests.support.concurrency import wait_until
from tests.support.log import read_events
from tests.support.person import Person
from tests.support.rows import list_rows
from tests.support.service import ROOT, Service
from tests.support.telemetry import OFTEN, Envelope, Tables, Telemetry
from trusted_service.observability.signals import name_operation

ACS = "https://contoso.communication.azure.com/identities"
ENTRA = "https://login.microsoftonline.com/5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001"


@pytest.mark.parametrize(
    ("url", "operation"),
    [
        (f"{ACS}?api-version=2023-10-01", "identities"),
        (f"{ACS}/8:acs:9a1b_0c0f/:issueAccessToken?x=/y", ":issueAccessToken"),
        (f"{ACS}/8%3Aacs%3A9a1b_0c0f?api-version=2023-10-01", "identities"),
        ("https://a.table.core.windows.net/identities(PartitionKey='a',RowKey='b/c/d')", "identities"),
        ("http://127.0.0.1:10002/account1/sessions()?$filter=x", "sessions"),
        ("https://a.table.core.windows.net/$batch", "$batch"),
        (f"{ENTRA}/oauth2/v2.0/token", "token"),
        (f"{ENTRA}/v2.0/.well-known/openid-configuration", "openid-configuration"),
        ("https://contoso.communication.azure.com/", ""),
    ],
)
def test_operation_names_no_key(url: str, operation: str) -> None:
    assert name_operation(url) == operation


def test_requests_and_calls_share_a_trace(telemetry: Telemetry) -> None:
    person = telemetry.world.new_user()
    response = person.token(csrf=person.csrf_headers())
    tables = Tables(telemetry.settle())
    events = read_events(telemetry.world.service, response)
    (trace,) = {event["trace_id"] for event in events if event["event"] == "request"}
    (request,) = tables.query(f'requests | where operation_Id == "{trace}"')
    assert (request["operation_Name"], request["resultCode"]) == ("POST /api/token", "200")
    assert request["success"] == "True"
    calls = tables.query(f'dependencies | where operation_Id == "{trace}" | project name, target, resultCode')
    assert [tuple(called.values()) for called in calls] == [
        ("GET /sessions", "Table Storage", "200"),
        ("POST /:issueAccessToken", "Communication Services", "200"),
    ]
    assert response.headers["X-Request-ID"] in str(request["customDimensions"])
    assert not tables.query(f'traces | where operation_Id == "{trace}"'), "the span tells it"


def test_calls_belong_to_requests_alone(telemetry: Telemetry) -> None:
    world = telemetry.world
    telemetry.settle()
    world.azure.clear_envelopes()
    response = world.new_person().signed_in().token()
    wait_until(lambda: "usage" in json.dumps(world.azure.list_envelopes()))  # written by a periodic task
    assert world.admin.person.get("/admin/users.csv").status_code == 200
    tables = Tables(telemetry.settle())
    own = {row["operation_Id"] for row in tables.query("requests | distinct operation_Id")}
    calls = {row["operation_Id"] for row in tables.query("dependencies | distinct operation_Id")}
    assert calls <= own, "periodic tasks have none"
    (trace,) = {line["trace_id"] for line in read_events(world.service, response) if "trace_id" in line}
    names = tables.query(f'dependencies | where operation_Id == "{trace}" | distinct name')
    assert {"name": "POST /$batch"} in names, "what follows the response belongs to it"


def test_refused_request_is_sent_too(telemetry: Telemetry) -> None:
    url = telemetry.world.service.url
    for path, method in (("/api/me", "GET"), ("/wp-admin/x.php", "GET"), ("/api/token", "BREW")):
        requests.request(method, url + path, timeout=30)
    tables = Tables(telemetry.settle())
    found = tables.query("requests | distinct operation_Name, resultCode")
    assert {("GET /api/me", "401"), ("GET ", "404")} <= {tuple(request.values()) for request in found}


def test_role_and_instance_are_named(telemetry: Telemetry) -> None:
    tags = [envelope["tags"] for envelope in telemetry.settle() if "ai.cloud.role" in envelope["tags"]]
    assert {tag["ai.cloud.role"] for tag in tags} == {"trusted-service"}
    assert all(tag["ai.cloud.roleInstance"] for tag in tags)


def test_app_service_instance_is_named(telemetry: Telemetry) -> None:
    place = {"WEBSITE_SITE_NAME": "a-site", "WEBSITE_INSTANCE_ID": "instance-7", "OTEL_SERVICE_NAME": "mine"}
    telemetry.world.azure.clear_envelopes()
    with Service(telemetry.world.settings | place) as service:
        other = Telemetry(replace(telemetry.world, service=service))
        found = {
            (envelope["tags"]["ai.cloud.role"], envelope["tags"]["ai.cloud.roleInstance"])
            for envelope in other.settle()
            if envelope["tags"].get("ai.cloud.role") != "trusted-service"
        }
    assert found == {("mine", "instance-7")}


def read_metrics(envelopes: Sequence[Envelope], *names: str) -> Counter[tuple[str, ...]]:
    """Sum the service's own metrics by name and dimensions."""
    totals = Counter[tuple[str, ...]]()
    for envelope in envelopes:
        data = envelope["data"]["baseData"]
        if envelope["data"]["baseType"] == "MetricData" and data["metrics"][0]["name"] in names:
            point = data["metrics"][0]
            totals[point["name"], *data["properties"].values()] += point["value"]
    return totals


def test_tokens_and_refusals_are_counted(telemetry: Telemetry) -> None:
    world = telemetry.world
    telemetry.settle()
    world.azure.clear_envelopes()
    person = world.new_user()
    person.token()
    teams = world.azure.mint_tokens(
        username=person.account.username, scope="teams", clientId=world.azure.get_app().spa_client_id
    )
    headers = bearer(world.azure, person)
    body = {"teamsUserAadToken": teams[0]}
    response = call("POST", f"{person.url}/api/token/teams", headers=headers, json=body)
    assert response.status_code == 200, response.text
    assert person.post("/api/token").status_code == 403
    totals = read_metrics(telemetry.settle(), "trusted_service.tokens", "trusted_service.refusals")
    assert totals == {
        ("trusted_service.tokens", "communication"): 2,
        ("trusted_service.tokens", "teams"): 1,
        ("trusted_service.refusals", "csrf_failed"): 1,
        ("trusted_service.refusals", "invalid_token"): 1,
    }


def test_upstream_durations_tell_operation_and_status(telemetry: Telemetry) -> None:
    world = telemetry.world
    person = world.new_user()
    world.azure.plant_fault("acs", "issue", "status", status=503)
    world.azure.plant_fault("acs", "issue", "reset")
    for status in (503, 503, 200):
        assert person.token().status_code == status
    kql = (
        'customMetrics | where name == "trusted_service.upstream_duration" and valueMin >= 0 '
        '| where customDimensions.operation == "POST :issueAccessToken" and valueMax < 15'
        "| summarize calls = sum(valueCount) by status = tostring(customDimensions.status)"
    )
    tables = Tables(telemetry.settle())
    calls = {row["status"]: row["calls"] for row in tables.query(kql)}
    assert calls["503"] == calls["0"] == 1
    assert calls["200"] >= 1
    for table, codes in (("requests", ["503"]), ("dependencies", ["0", "503"])):
        failed = tables.query(f'{table} | where success == "False" and resultCode !in ("401", "403", "404")')
        assert sorted({row["resultCode"] for row in failed}) == codes


def test_envelopes_hold_no_secrets_and_names(telemetry: Telemetry, tmp_path: Path) -> None:
    world = telemetry.world
    person = world.new_user(name="Eve Nightingale-Peculiar")
    identity = world.identity_of(person)
    plant_everywhere(world.service, JWT)
    world.azure.plant_fault("acs", "issue", "reset", times=3)
    assert person.token().status_code == 503
    world.admin.do("page", person, "block", reason="Eve Nightingale-Peculiar has left")
    envelopes = telemetry.settle()
    sent = tmp_path / "envelopes.json"
    sent.write_text("\n".join(json.dumps(envelope) for envelope in envelopes), encoding="utf-8")
    assert log_scan.find_leaks([sent]) == []
    text = sent.read_text(encoding="utf-8")
    for unwanted in ("Nightingale", person.account.username, "python-requests", '"client"', "ai.location.ip"):
        assert unwanted not in text, unwanted
    for envelope in envelopes:
        if envelope["data"]["baseType"] not in ("MessageData", "ExceptionData"):
            assert person.account.object_id not in json.dumps(envelope)
            assert identity.partition("_")[2] not in json.dumps(envelope)


def test_operator_is_not_sent(telemetry: Telemetry) -> None:
    world = telemetry.world
    person = world.new_user()
    world.azure.clear_envelopes()
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "block", person.key, "--no-wait"]
    subprocess.run(command, cwd=ROOT, env=world.service.env, check=True, timeout=60)
    assert f"{pwd.getpwuid(os.getuid()).pw_name}@" in str(list_rows(world.tables, "audit", "Action", "block"))
    envelopes = [one for one in world.azure.list_envelopes() if '"operator"' in json.dumps(one)]
    (line,) = Tables(envelopes).query('traces | where tostring(customDimensions.action) == "block"')
    dimensions = json.loads(line["customDimensions"])
    assert dimensions["target"] == person.key
    assert "actor" not in dimensions


RAISE = """
import sys
import structlog
from trusted_service.observability import logs, telemetry

logs.configure("json")
telemetry.configure(sys.argv[1])
try:
    try:
        raise ValueError("https://x.example/users()?$filter=Name eq 'nightingale'")
    except ValueError as error:
        raise KeyError("Eve Nightingale") from error
except KeyError as error:
    structlog.get_logger("trusted_service").error("internal_error", exc_info=error)
"""


def test_exception_is_sent_without_texts(telemetry: Telemetry) -> None:
    world = telemetry.world
    world.azure.clear_envelopes()
    command = [sys.executable, "-c", RAISE, world.azure.telemetry_connection_string]
    subprocess.run(command, cwd=ROOT, env=world.service.env, check=True, timeout=60)
    sent = [one for one in world.azure.list_envelopes() if "internal_error" in json.dumps(one)]
    assert Tables(sent).query("exceptions | project type, outerMessage") == [
        {"type": "KeyError", "outerMessage": "internal_error"}
    ]
    assert "line 12" in json.dumps(sent)
    assert "ightingale" not in json.dumps(sent)


def test_request_without_thread_is_sent(telemetry: Telemetry) -> None:
    world = telemetry.world
    world.azure.clear_envelopes()
    with Service(world.settings | OFTEN | {"GUNICORN_CMD_ARGS": "--threads 1"}) as single:
        person = Person(world.azure, single.url, world.azure.new_account()).signed_in()
        world.azure.plant_fault("acs", "create", "hang", times=None)
        holder = threading.Thread(target=person.token, kwargs={"csrf": person.csrf_headers()})
        holder.start()
        time.sleep(0.5)
        response = requests.get(f"{single.url}/healthz", timeout=30)
        holder.join()
    assert response.status_code == 503
    (line,) = read_events(single, response)
    assert (line["event"], line["status"], line["code"]) == ("request", 503, "upstream_unavailable")
    tables = Tables(world.azure.list_envelopes())
    found = tables.query('requests | where resultCode == "503" | project customDimensions')
    assert response.headers["X-Request-ID"] in str(found)
