"""The mapping where somebody else writes the same row between two of its calls: one identity, or none."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from tests.support.local_azure import LocalAzure
from tests.support.new_table import new_table
from tests.support.settings import OF_ITS_OWN, TENANT
from tests.support.storage_proxy import Fault, Kind, StorageProxy
from trusted_service import connections
from trusted_service.communication import Communication
from trusted_service.config import Settings
from trusted_service.erasure import Erasure
from trusted_service.errors import NotSignedIn, UpstreamError, UpstreamUnavailable, WrongResource
from trusted_service.identity_history import IdentityHistory
from trusted_service.identity_switch import IdentitySwitch
from trusted_service.later import Later
from trusted_service.models import Identity, IssuedToken, User, UserId
from trusted_service.new_identities import NewIdentities
from trusted_service.provisioning import Provisioning
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import LedgerTable
from trusted_service.storage.sessions import SessionLimits, SessionTable
from trusted_service.storage.user_index import UserIndexTable
from trusted_service.user_index import UserIndex

SCOPES, MINUTES = ("chat",), 60


class AtOnce(Later):
    """Does at once what has time."""

    def do_in(self, seconds: float, action: Callable[[], None]) -> None:
        action()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Provisioning with tables of its own and no grace period, and a user nobody has seen."""

    azure: LocalAzure
    identities: IdentityTable
    communication: Communication
    provisioning: Provisioning
    pin: ResourcePin
    user: User

    def row(self) -> Identity | None:
        return self.identities.find(self.user.id)

    def existing(self) -> Identity:
        row = self.row()
        assert row is not None
        return row

    def made_since(self, before: list[str]) -> set[str]:
        """Identities that are new. Others may go: what other tests made in vain is deleted later."""
        return set(self.azure.list_identities()) - set(before)

    def insert(self, acs_user_id: str) -> Identity:
        return self.identities.insert(self.user, acs_user_id, datetime.now(UTC))

    def write(self, acs_user_id: str) -> None:
        """Let the row name something else, as another writer would."""
        self.identities.replace_acs_user_id(self.existing(), acs_user_id)

    def ask(self, row: Identity | None, still_signed_in: Callable[[], bool] = lambda: True) -> IssuedToken:
        return self.provisioning.issue(self.user, row, SCOPES, MINUTES, still_signed_in=still_signed_in)


@pytest.fixture
def scene(azure: LocalAzure, settings: dict[str, str]) -> Scene:
    with azure.in_environment():
        session = connections.new_session(8)
    own = Settings.from_env({**settings, **OF_ITS_OWN}).communication_services
    communication = Communication.connect(own, None, session)
    identities, ledger = IdentityTable(new_table(settings)), LedgerTable(new_table(settings))
    sessions = SessionTable(new_table(settings), SessionLimits.of_minutes(60, 60))
    history, pin = IdentityHistory(ledger), ResourcePin(ledger, identities, communication)
    index = UserIndex(identities, UserIndexTable(new_table(settings)), history)
    provisioning = Provisioning(
        identities=identities,
        sessions=sessions,
        communication=communication,
        new_identities=NewIdentities(
            identities=identities, communication=communication, history=history, pin=pin, later=AtOnce()
        ),
        switch=IdentitySwitch(identities, sessions, history),
        index=index,
        pin=pin,
        erasure=Erasure(
            identities=identities, communication=communication, history=history, index=index, pin=pin
        ),
        grace_seconds=0,
    )
    return Scene(
        azure=azure,
        identities=identities,
        communication=communication,
        provisioning=provisioning,
        pin=pin,
        user=User(id=UserId(TENANT, str(uuid.uuid4())), name="Test Person", username="test@contoso.example"),
    )


def before_each(monkeypatch: pytest.MonkeyPatch, of: object, name: str, action: Callable[[], object]) -> None:
    """Do something right before each call of a method."""
    method = getattr(of, name)

    def after_action(*arguments: Any, **named: Any) -> Any:
        action()
        return method(*arguments, **named)

    monkeypatch.setattr(of, name, after_action)


def test_first_token_of_somebody_who_was_deleted_meanwhile_is_taken_back(scene: Scene) -> None:
    before = scene.azure.list_identities()
    with pytest.raises(NotSignedIn):
        scene.ask(None, still_signed_in=lambda: False)
    assert scene.row() is None
    assert scene.made_since(before) == set()


def test_row_that_somebody_has_changed_since_is_not_taken_back(scene: Scene) -> None:
    def block() -> bool:
        scene.identities.set_blocked(scene.user.id, "", datetime.now(UTC))
        return False

    with pytest.raises(NotSignedIn):
        scene.ask(None, still_signed_in=block)
    row = scene.existing()
    assert row.blocked
    assert row.acs_user_id in scene.azure.list_identities()


def test_deletion_that_somebody_else_goes_on_with_is_left_to_them(scene: Scene) -> None:
    deleting = scene.identities.set_deleting(scene.insert(scene.azure.new_unknown_identity()))
    scene.identities.note_token(scene.user.id, datetime.now(UTC))
    before = scene.azure.list_identities()
    with pytest.raises(NotSignedIn):
        scene.ask(deleting)
    assert scene.row() is not None
    assert scene.made_since(before) == set()


def test_deletion_of_a_row_without_an_identity_is_finished(scene: Scene) -> None:
    deleting = scene.identities.set_deleting(scene.insert(""))
    issued = scene.ask(scene.row())
    after = scene.existing()
    assert (after.acs_user_id, after.deleting) == (issued.acs_user_id, False)
    assert after.version != deleting.version


def test_nobody_is_served_after_a_deletion_by_the_row_of_another_request(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted, insert = scene.azure.new_unknown_identity(), scene.identities.insert

    def insert_second(*arguments: Any) -> Identity:
        insert(scene.user, inserted, datetime.now(UTC))
        return insert(*arguments)

    monkeypatch.setattr(scene.identities, "insert", insert_second)
    before = scene.azure.list_identities()
    with pytest.raises(NotSignedIn):
        scene.ask(None, still_signed_in=lambda: False)
    with pytest.raises(NotSignedIn):
        scene.ask(scene.row(), still_signed_in=lambda: False)
    assert scene.existing().acs_user_id == inserted
    assert scene.made_since(before) == set()


@pytest.mark.parametrize(("signed_in", "failure"), [(True, UpstreamUnavailable), (False, NotSignedIn)])
def test_row_in_the_way_that_is_gone_is_not_brought_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, signed_in: bool, failure: type[Exception]
) -> None:
    in_the_way, before = scene.insert(scene.azure.new_unknown_identity()), scene.azure.list_identities()
    with monkeypatch.context() as patched:
        before_each(patched, scene.identities, "find", lambda: scene.identities.remove(in_the_way))
        with pytest.raises(failure):
            scene.ask(None, still_signed_in=lambda: signed_in)
    assert scene.row() is None
    assert scene.made_since(before) == set()


def test_row_that_changes_at_each_replacement_is_503(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    row, before = scene.insert(scene.azure.new_unknown_identity()), scene.azure.list_identities()
    others: list[str] = []

    def interfere() -> None:
        others.append(scene.azure.new_unknown_identity())
        scene.write(others[-1])

    before_each(monkeypatch, scene.communication, "create_identity", interfere)
    with pytest.raises(UpstreamUnavailable, match="changed too often"):
        scene.ask(row)
    after = scene.existing()
    assert after.acs_user_id == others[-1]
    assert scene.made_since(before) == set()


def test_first_row_that_is_refused_leaves_no_identity(scene: Scene, storage_proxy: StorageProxy) -> None:
    before = scene.azure.list_identities()
    storage_proxy.plant(Fault(kind="status", method="POST", about=scene.user.id.object_id, status=403))
    with pytest.raises(UpstreamUnavailable):
        scene.ask(None)
    assert scene.made_since(before) == set()


@pytest.mark.parametrize(("status", "unknown"), [(400, False), (500, True)])
def test_create_that_may_have_happened_is_in_the_log(scene: Scene, status: int, unknown: bool) -> None:
    scene.azure.plant_fault("acs", "create", "status", status=status)
    with structlog.testing.capture_logs() as logged, pytest.raises(UpstreamError):
        scene.ask(None)
    mine = [line["event"] for line in logged if line.get("user") == str(scene.user.id)]
    assert mine == ["identity_may_be_orphaned"] * unknown


def test_identity_that_cannot_be_discarded_is_named_in_the_log(scene: Scene) -> None:
    scene.azure.plant_fault("acs", "delete", "status", times=None)
    with structlog.testing.capture_logs() as logged, pytest.raises(NotSignedIn):
        scene.ask(None, still_signed_in=lambda: False)
    *postponed, orphaned = (line for line in logged if line.get("user") == str(scene.user.id))
    assert {line["event"] for line in postponed} == {"identity_discard_postponed"}
    assert orphaned["event"] == "identity_orphaned"
    assert orphaned["acs_user_id"] in scene.azure.list_identities()


@pytest.mark.parametrize(("kind", "status"), [("status", 503), ("status", 400), ("reset", 0)])
def test_replacement_that_is_not_written_leaves_no_identity(
    scene: Scene, storage_proxy: StorageProxy, kind: Kind, status: int
) -> None:
    row, before = scene.insert(scene.azure.new_unknown_identity()), scene.azure.list_identities()
    storage_proxy.plant(Fault(kind=kind, method="PATCH", about=scene.user.id.object_id, status=status))
    with pytest.raises(UpstreamUnavailable):
        scene.ask(row)
    assert scene.row() == row
    assert scene.made_since(before) == set()


def test_replacement_that_is_written_but_not_answered_holds(
    scene: Scene, storage_proxy: StorageProxy
) -> None:
    row = scene.insert(scene.azure.new_unknown_identity())
    mine = scene.user.id.object_id
    storage_proxy.plant(
        Fault(kind="fail-after-commit", method="PATCH", about=mine, also='"AcsUserId"', times=1)
    )
    issued = scene.ask(row)
    after = scene.existing()
    assert issued.acs_user_id == after.acs_user_id
    assert issued.acs_user_id in scene.azure.list_identities()


@pytest.mark.parametrize(("method", "also"), [("POST", ""), ("PATCH", '"AcsUserId"')])
def test_identity_that_a_row_may_name_is_not_deleted(
    scene: Scene, storage_proxy: StorageProxy, method: str, also: str
) -> None:
    """The write is done but not answered, and the storage then fails all the time."""
    row: Identity | None = scene.insert(scene.azure.new_unknown_identity())
    if method == "POST":
        scene.identities.remove(scene.existing())
        row = None
    mine = scene.user.id.object_id
    storage_proxy.plant(Fault(kind="fail-after-commit", method=method, about=mine, also=also, times=1))
    storage_proxy.plant(Fault(kind="status", method="GET", about=mine))
    with structlog.testing.capture_logs() as logged, pytest.raises(UpstreamUnavailable):
        scene.ask(row)
    storage_proxy.clear()
    named = scene.existing().acs_user_id
    assert named in scene.azure.list_identities()
    assert [line["acs_user_id"] for line in logged if line["event"] == "identity_orphaned"] == [named]


def test_first_identity_of_a_storage_pins_its_resource(scene: Scene) -> None:
    issued = scene.ask(None)
    pin = scene.pin.find(fresh=True)
    assert pin is not None
    assert issued.acs_user_id.startswith(f"{pin.resource}_")


def test_pin_of_an_existing_storage_is_that_of_its_first_mapped_row(scene: Scene) -> None:
    foreign = f"8:acs:{uuid.uuid4()}"
    scene.insert(f"{foreign}_{uuid.uuid4()}")
    pin = scene.pin.find()
    assert pin is not None
    assert pin.resource == foreign
    before = scene.azure.list_identities()
    other = User(id=UserId(TENANT, str(uuid.uuid4())), name="", username="")
    with pytest.raises(WrongResource):
        scene.provisioning.issue(other, None, SCOPES, MINUTES, still_signed_in=lambda: True)
    assert scene.made_since(before) == set(), "the new identity belongs to another resource: deleted again"
    assert scene.identities.find(other.id) is None
