"""`doctor` reports what a ticket needs, without secrets and names, whatever fails."""

import json
import time
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from tests.cli.test_check_config import run
from tests.support.commands import read_json, run_command
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.seed import plant_events
from tests.support.settings import NAMES, OWN_SETTINGS, REQUIRED
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.app import create_app
from trusted_service.models import UserId
from trusted_service.settings import Settings

LIMIT_SECONDS = 60
PARTS = {"acs": "communicationServices", "entra": "entraId", "storage": "tableStorage"}
SECRETS = ("SECRET_KEY", "ENTRA_CLIENT_SECRET", "COMMUNICATION_SERVICES_CONNECTION_STRING")


def examine(application: Flask) -> dict[str, Any]:
    """Run the command; return its report."""
    done = run_command(application, "doctor")
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = read_json(done)
    return report


def test_doctor_reports_every_part(world: World, application: Flask, mapped_user: Person) -> None:
    account = mapped_user.account
    plant_events(
        world.azure.env,
        3,
        timedelta(),
        UserId(account.tenant_id, account.object_id),
        outcome="failed",
    )
    report = examine(application)
    assert {"flask", "azure-data-tables", "gunicorn"} <= report["versions"]["packages"].keys()
    assert set(report["checks"].values()) == {"ok"}
    assert report["settings"].keys() >= set(NAMES)
    assert report["users"]["all"] >= 1
    assert report["sessions"]["all"] >= 1
    assert report["ledger"]["current"] >= 1
    assert report["index"] == "complete"
    assert report["resource"]["Resource"].startswith("8:acs:")
    assert abs(report["clockAheadOfStorageSeconds"]) <= 2
    assert {event["action"] for event in report["failedInTheAuditTrail"]} >= {"block"}
    assert not [part for part, found in report.items() if "could not be read" in str(found)]


def test_doctor_names_no_secret_and_nobody(
    world: World, settings: Mapping[str, str], application: Flask, mapped_user: Person
) -> None:
    text = json.dumps(examine(application), ensure_ascii=False)
    connection = dict(part.split("=", 1) for part in settings[SECRETS[2]].split(";"))
    for secret in (OWN_SETTINGS["SECRET_KEY"], settings["ENTRA_CLIENT_SECRET"], connection["accesskey"]):
        assert secret not in text
        assert secret[:6] not in text
    shown = json.loads(text)["settings"]
    assert {shown[name] for name in SECRETS} == {"set"}
    account = mapped_user.account
    for name in (account.username, account.name, account.object_id):
        assert name not in text


@pytest.mark.parametrize("upstream", PARTS)
def test_doctor_reports_although_upstream_is_silent(
    settings: Mapping[str, str], azure: LocalAzure, storage_proxy: StorageProxy, upstream: str
) -> None:
    with azure.in_environment():
        application = create_app(Settings.from_env({**settings, **OWN_SETTINGS}))
    if upstream == "storage":
        storage_proxy.plant(Fault(kind="hang"))
    else:
        azure.plant_fault(upstream, "*", "hang", times=None)
    begin = time.monotonic()
    report = examine(application)
    assert time.monotonic() - begin < LIMIT_SECONDS
    failing = {name for name, line in report["checks"].items() if line != "ok"}
    assert failing == {
        {"acs": "communicationServices", "entra": "entraId", "storage": "tableStorage"}[upstream]
    }
    if upstream == "storage":
        assert report["resource"].startswith("could not be read: Table Storage: ")
        assert "incomplete" in report["users"]
    assert report["versions"]["python"]


def test_doctor_works_with_unusable_settings() -> None:
    # pragma: allowlist nextline secret (opens nothing)
    secret = f"canary-{uuid.uuid4()}"
    done = run("flask", "--app", "wsgi", "doctor", **REQUIRED | {"ENTRA_CLIENT_ID": secret})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "ENTRA_CLIENT_ID must be a GUID" in "".join(report["problems"])
    assert "SECRET_KEY" in report["settings that are set"]
    assert secret not in done.stdout + done.stderr
