"""The canary's identity: one for all instances, in the identity map, and never left behind."""

import pytest

from tests.support.canary_scene import KEY, Scene, names
from tests.support.commands import read_json, run_command
from tests.support.concurrency import run_concurrently
from tests.support.rows import find_entry, merge_row
from tests.support.storage_proxy import Fault, Kind
from trusted_service.models import Actor

OPERATOR = Actor(kind="operator", key="ada")
ACS_FAILED = "canary_failed Communication Services"


def test_outage_creates_no_identity(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.with_turn()
    scene.azure.plant_fault("acs", "*", "status", status=503, times=None)
    scene.azure.reset_calls()
    for _ in range(5):
        instance.canary.run()
    assert scene.azure.count_calls("acs") == {"revoke": 5}
    assert names(caplog) == [ACS_FAILED] * 5


@pytest.mark.parametrize(
    ("kind", "members"),
    [("status", {"status": 403}), ("status", {"status": 429}), ("fail-after-commit", {})],
)
def test_canary_fails_until_it_has_an_identity(
    scene: Scene, caplog: pytest.LogCaptureFixture, kind: str, members: dict[str, object]
) -> None:
    instance = scene.with_turn()
    scene.azure.plant_fault("acs", "create", kind, times=None, **members)
    for _ in range(4):
        instance.canary.run()
    assert names(caplog) == [ACS_FAILED] * 4
    lost = scene.azure.list_identities()
    assert len(lost) == (1 if kind == "fail-after-commit" else 0), "one at most, whose response was lost"
    scene.azure.clear_faults()
    instance.canary.run()
    assert names(caplog) == ([ACS_FAILED] if lost else ["canary_ok"])
    assert bool(scene.identity()) is not bool(lost)


@pytest.mark.parametrize(
    ("method", "kind", "status"),
    [
        ("POST", "status", 403),
        ("POST", "fail-after-commit", 503),
        ("PATCH", "status", 403),
        ("PATCH", "fail-after-commit", 503),
        ("PATCH", "signal", 0),  # another instance writes the row
    ],
)
def test_unrecorded_identity_is_not_left_behind(
    scene: Scene, caplog: pytest.LogCaptureFixture, method: str, kind: Kind, status: int
) -> None:
    """The entry of the ledger is written (POST), then the canary's row (PATCH)."""
    instance = scene.with_turn()
    fault = Fault(kind=kind, status=status, method=method, table="ledger", also='"8:acs:', times=1)
    fault.action = lambda: merge_row(scene.tables, "ledger", KEY, {"Other": "instance"})
    scene.storage.plant(fault)
    instance.canary.run()
    assert fault.times == 0
    assert names(caplog) == ["canary_failed Table Storage"]
    left = scene.azure.list_identities()
    assert len(left) == (1 if kind == "fail-after-commit" else 0), "one at most, which the row may name"
    assert all(find_entry(scene.tables, identity) for identity in left)


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


def test_missing_identity_is_never_replaced(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.with_identity()
    identity = scene.identity()
    scene.azure.delete_identity(identity)
    before = scene.azure.list_identities()
    names(caplog)
    for _ in range(5):
        instance.canary.run()
    assert names(caplog) == ["canary_failed Communication Services"] * 5
    assert (scene.identity(), scene.azure.list_identities()) == (identity, before)


def test_moved_resource_gets_own_identity(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    instance = scene.with_identity()
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
        archived = [f"{identity},,,archive-only," for identity in (was, scene.identity())]
        assert sorted(scene.read_map()) == sorted(archived)
    finally:
        scene.azure.swap_resources()
        instance.restoration.move(OPERATOR, instance.restoration.plan_move())


def test_canary_is_no_user(scene: Scene) -> None:
    scene.with_identity()
    for command in ("list", "repair"):
        done = run_command(scene.new_application(), "users", command, "--json")
        assert (done.exit_code, read_json(done)) == (0, []), done.output
    assert scene.read_map() == [f"{scene.identity()},,,archive-only,"]
    (document,) = read_json(run_command(scene.new_application(), "users", "export"))
    assert document["user"]["communicationUserId"] == scene.identity()
    assert document["backup"]["identity"] is None
