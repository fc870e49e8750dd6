"""The canary: one identity for all instances, and each failure of an upstream in the log."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from unittest import mock

import pytest
from azure.data.tables import TableEntity

from tests.support.commands import read_json, run_command
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import GENEROUS, open_upstreams
from tests.support.rows import empty, list_rows
from tests.support.settings import OWN_SETTINGS
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service import services as services_module
from trusted_service.app import create_app
from trusted_service.background import JITTER
from trusted_service.models import Actor
from trusted_service.observability import logs
from trusted_service.observability.canary import MAX_SECONDS, SECONDS
from trusted_service.services import Services
from trusted_service.settings import Settings

OPERATOR = Actor(kind="operator", key="ada")


@dataclass
class Scene:
    """Upstreams, and instances whose canary runs when a test says so."""

    azure: LocalAzure
    storage: StorageProxy
    list_row: Callable[[], list[TableEntity]]
    env: dict[str, str]
    instances: list[Services] = field(default_factory=list)

    def new_instance(self, changes: Mapping[str, str | None] | None = None) -> Services:
        changed = self.env | OWN_SETTINGS | dict(changes or {})
        self.instances.append(
            Services(Settings.from_env({name: value for name, value in changed.items() if value is not None}))
        )
        return self.instances[-1]

    def identity(self) -> str:
        (row,) = self.list_row()
        return str(row["AcsUserId"])

    def pinned(self) -> Services:
        """A new instance whose turn it is, in a storage with a user's identity."""
        instance = self.new_instance()
        instance.pin.admit(self.azure.new_unknown_identity())
        for _ in range(3):  # makes the row, takes the turn, creates the identity
            instance.canary.run()
        return instance


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Scene]:
    with open_upstreams() as (azure, storage, tables), azure.in_environment():

        def list_row() -> list[TableEntity]:
            return list_rows(tables, "ledger", "RowKey", "canary")

        logs.configure("json")
        through_proxy = {"TABLE_STORAGE_CONNECTION_STRING": storage.connection_string}
        yield Scene(azure, storage, list_row, azure.env | GENEROUS | through_proxy)


@pytest.fixture
def scene(upstreams: Scene) -> Iterator[Scene]:
    yield upstreams
    upstreams.azure.clear_faults()
    upstreams.storage.clear()
    for identity in upstreams.azure.list_identities():
        upstreams.azure.delete_identity(identity)
    empty(upstreams.env, "ledger")


def names(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The canary's log lines since the last call, with the upstream."""
    lines = [record for record in caplog.records if record.message.startswith("canary_")]
    caplog.clear()
    return [" ".join([line.message, getattr(line, "upstream", "")]).strip() for line in lines]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_canary_waits_for_the_first_user(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.new_instance()
    for _ in range(3):
        instance.canary.run()
    assert names(caplog) == ["canary_ok"]
    assert scene.azure.list_identities() == []
    assert scene.identity() == ""


def test_outage_creates_no_identity(scene: Scene) -> None:
    instance = scene.new_instance()
    instance.pin.admit(scene.azure.new_unknown_identity())
    scene.azure.plant_fault("acs", "*", "status", status=503, times=None)
    scene.azure.reset_calls()
    for _ in range(60):  # an hour
        instance.canary.run()
    assert scene.azure.count_calls("acs") == {"revoke": 59}
    scene.azure.clear_faults()
    scene.azure.plant_fault("acs", "create", "fail-after-commit", times=None)
    for _ in range(60):
        instance.canary.run()
    assert len(scene.azure.list_identities()) <= 1


def test_twenty_instances_share_one_identity(scene: Scene) -> None:
    instances = [scene.new_instance() for _ in range(20)]
    instances[0].pin.admit(scene.azure.new_unknown_identity())
    scene.azure.reset_calls()
    for _ in range(4):
        run_concurrently([instance.canary.run for instance in instances])
    assert scene.azure.list_identities() == [scene.identity()]
    calls = scene.azure.count_calls("acs")
    assert calls["create"] == 1
    assert 1 <= calls["issue"] <= 4


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
    instance = scene.pinned()
    names(caplog)
    body = {"body": {"error": {"code": reason.split()[-1]}}} if "status" in options else {}
    service, operation, kind = fault
    scene.azure.plant_fault(service, operation, kind, **{"times": None} | options | body)
    instance.canary.run()
    (line,) = [record for record in caplog.records if record.message == "canary_failed"]
    assert vars(line)["upstream"] == upstream
    assert reason in vars(line)["reason"]
    assert names(caplog) == [f"canary_failed {upstream}"]
    scene.azure.clear_faults()
    instance.canary.run()
    instance.canary.run()
    assert names(caplog) == ["canary_ok"]


def test_unreachable_storage_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.pinned()
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
        for _ in range(3):
            instance.canary.run()
        assert names(caplog) == ["canary_ok"]
        scene.azure.plant_fault("entra", "msi", "status", status=500, times=None)
        instance.canary.run()
    assert names(caplog) == ["canary_failed Entra ID"]


def test_missing_identity_is_never_replaced(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.pinned()
    identity = scene.identity()
    scene.azure.delete_identity(identity)
    before = scene.azure.list_identities()
    names(caplog)
    for _ in range(5):
        instance.canary.run()
    assert names(caplog) == ["canary_failed Communication Services"] * 5
    assert (scene.identity(), scene.azure.list_identities()) == (identity, before)


def test_moved_resource_gets_own_identity(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.pinned()
    was = scene.identity()
    scene.azure.swap_resources()
    try:
        names(caplog)
        instance.canary.run()
        assert names(caplog) == ["canary_failed Communication Services"]
        assert scene.identity() == was
        instance.restoration.move(OPERATOR, instance.restoration.plan_move())
        for _ in range(2):
            instance.canary.run()
        assert scene.identity().rpartition("_")[0] != was.rpartition("_")[0]
        assert names(caplog) == ["canary_ok"]
    finally:
        scene.azure.swap_resources()
        instance.restoration.move(OPERATOR, instance.restoration.plan_move())


def test_canary_is_no_user(scene: Scene) -> None:
    scene.pinned()
    application = create_app(Settings.from_env(scene.env | OWN_SETTINGS))
    for command in ("list", "export", "identity-map", "repair"):
        done = run_command(application, "users", command, "--json")
        assert done.exit_code == 0, done.output
        assert read_json(done) == []


def test_two_failures_fit_into_five_minutes() -> None:
    assert 2 * (SECONDS * (1 + JITTER) + MAX_SECONDS) < 300


def test_service_runs_the_canary(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services_module, "CANARY_SECONDS", 0.1)
    instance = scene.pinned()
    scene.azure.reset_calls()
    instance.start()
    try:
        wait_until(lambda: scene.azure.count_calls("acs").get("issue", 0) > 1)
    finally:
        instance.close()
