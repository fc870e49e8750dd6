"""The canary: each failure of an upstream is in the log, within minutes, and only then."""

import os
from unittest import mock

import pytest

from tests.support.canary_scene import Scene, names
from tests.support.concurrency import wait_until
from tests.support.service import free_port
from tests.support.storage_proxy import Fault
from tests.support.telemetry import read_alerts
from trusted_service.background import JITTER
from trusted_service.observability import canary, metrics
from trusted_service.observability.canary import FIRST_SECONDS, MAX_SECONDS, SECONDS

ACS = "COMMUNICATION_SERVICES_CONNECTION_STRING"


def test_canary_waits_for_the_first_user(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = scene.azure.env[ACS].partition(";")[0].removeprefix("endpoint=")
    unused = scene.azure.env[ACS].replace(endpoint, f"https://localhost:{free_port()}/")
    for settings, lines, counted in (
        ({}, [], ("waiting",)),
        ({ACS: unused}, ["canary_failed Communication Services"], ("failed", "Communication Services")),
    ):
        instance = scene.new_instance(settings)
        instance.canary.run()
        with mock.patch.object(metrics, "canary") as count:
            instance.canary.run()
        assert names(caplog) == lines
        assert count.mock_calls == [mock.call(*counted)]
    assert scene.azure.list_identities() == []
    assert scene.identity() == ""


FAILURES = [
    ("Communication Services", "HTTP 400 UnsupportedApiVersion", ("acs", "issue", "status"), {"status": 400}),
    ("Communication Services", "HTTP 403 Denied", ("acs", "issue", "status"), {"status": 403}),
    ("Communication Services", "", ("acs", "issue", "reset"), {}),
    ("Entra ID", "AADSTS7000222", ("entra", "token", "refuse"), {"code": "AADSTS7000222"}),
    ("Entra ID", "AADSTS700027", ("entra", "token", "refuse"), {"code": "AADSTS700027"}),
]


@pytest.mark.parametrize(("upstream", "reason", "fault", "options"), FAILURES)
def test_failing_upstream_is_logged_at_once(
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
    upstream: str,
    reason: str,
    fault: tuple[str, str, str],
    options: dict[str, object],
) -> None:
    instance = scene.with_identity()
    names(caplog)
    body = {"body": {"error": {"code": reason.split()[-1]}}} if "status" in options else {}
    service, operation, kind = fault
    scene.azure.plant_fault(service, operation, kind, **{"times": None} | options | body)
    instance.canary.run()
    (line,) = [record for record in caplog.records if record.message == "canary_failed"]
    assert vars(line)["upstream"] == upstream
    assert vars(line)["error"] == ("AppRefused" if service == "entra" else "UpstreamUnavailable")
    assert reason in vars(line)["reason"]
    assert names(caplog) == [f"canary_failed {upstream}"]
    scene.azure.clear_faults()
    instance.canary.run()
    instance.canary.run()
    assert names(caplog) == ["canary_ok"]


def test_unreachable_storage_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.with_identity()
    names(caplog)
    scene.storage.plant(Fault(kind="status"))
    instance.canary.run()
    assert names(caplog) == ["canary_failed Table Storage"]


def test_failing_identity_endpoint_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Although the service itself has a token for hours."""
    app = scene.azure.get_app()
    endpoint = {"IDENTITY_ENDPOINT": app.identity_endpoint, "IDENTITY_HEADER": app.identity_header}
    client = {"ENTRA_CLIENT_SECRET": None, "ENTRA_MANAGED_IDENTITY_CLIENT_ID": app.identity_client_id}
    with mock.patch.dict(os.environ, endpoint):
        instance = scene.new_instance(client)
        instance.pin.admit(scene.azure.new_unknown_identity())
        for _ in range(2):
            instance.canary.run()
        assert names(caplog) == ["canary_ok"]
        scene.azure.plant_fault("entra", "msi", "status", status=500, times=None)
        instance.canary.run()
        assert names(caplog) == ["canary_failed Entra ID"]
        scene.azure.plant_fault("entra", "token", "refuse", times=None)
        with mock.patch.object(metrics, "canary") as count:
            instance.canary.run()
    assert names(caplog) == ["canary_failed Entra ID"], "one for a run"
    assert count.mock_calls == [mock.call("failed", "Entra ID")]


def test_alert_fires_within_five_minutes() -> None:
    """After docs/operate.md, without the time that Azure Monitor takes to make what is sent searchable."""
    step = SECONDS * (1 + JITTER) + MAX_SECONDS
    alert = next(alert for alert in read_alerts() if alert["name"] == "canary-failed")
    assert (alert["frequency"], alert["query"][-1]) == ("PT1M", "| where lasted >= 30s")
    # What is left of a run, the first that fails, up to 30 s, the last that fails; export; evaluation.
    assert MAX_SECONDS + step + 30 + step + 5 + 60 < 300
    assert FIRST_SECONDS + step < 300, "the first after the start"


def test_service_runs_the_canary(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECONDS", "FIRST_SECONDS"):
        monkeypatch.setattr(canary, name, 0.1)
    instance = scene.with_identity()
    scene.azure.reset_calls()
    instance.start()
    try:
        wait_until(lambda: scene.azure.count_calls("acs").get("issue", 0) > 1)
    finally:
        instance.close()
