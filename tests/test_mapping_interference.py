"""The mapping where somebody else writes the same row between two of its calls: one identity, or none."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from tests.support.identity_rows import FOREIGN_IDENTITY
from tests.support.local_azure import LocalAzure
from tests.support.new_table import new_table
from tests.support.settings import OF_ITS_OWN, TENANT
from tests.support.storage_proxy import Fault, Kind, StorageProxy
from trusted_service import connections
from trusted_service.communication import Communication
from trusted_service.config import Settings
from trusted_service.errors import NotSignedIn, UpstreamError, UpstreamUnavailable
from trusted_service.later import Later
from trusted_service.mapping import Mapping
from trusted_service.models import Identity, IssuedToken, User, UserId
from trusted_service.storage.identities import IdentityTable

SCOPES, MINUTES = ("chat",), 60


class AtOnce(Later):
    """Does at once what has time."""

    def do_in(self, seconds: float, action: Callable[[], None]) -> None:
        action()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A mapping with a table of its own, and a user nobody has seen."""

    azure: LocalAzure
    identities: IdentityTable
    communication: Communication
    mapping: Mapping
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
        return self.mapping.issue_mapped(self.user, row, SCOPES, MINUTES, still_signed_in=still_signed_in)


@pytest.fixture
def scene(azure: LocalAzure, settings: dict[str, str]) -> Scene:
    with azure.in_environment():
        session = connections.new_session(8)
    own = Settings.from_env({**settings, **OF_ITS_OWN}).communication_services
    communication = Communication.connect(own, None, session)
    identities = IdentityTable(new_table(settings))
    return Scene(
        azure=azure,
        identities=identities,
        communication=communication,
        mapping=Mapping(identities, communication, AtOnce()),
        user=User(id=UserId(TENANT, str(uuid.uuid4())), name="Test Person", username="test@contoso.example"),
    )


def before_each(monkeypatch: pytest.MonkeyPatch, of: object, name: str, action: Callable[[], object]) -> None:
    """Do something right before each call of a method."""
    method = getattr(of, name)

    def after_action(*arguments: Any, **named: Any) -> Any:
        action()
        return method(*arguments, **named)

    monkeypatch.setattr(of, name, after_action)


def foreign_identity() -> str:
    return f"{FOREIGN_IDENTITY.partition('_')[0]}_{uuid.uuid4()}"


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
    deleting = scene.identities.set_deleting(scene.insert(FOREIGN_IDENTITY))
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


def test_row_that_was_in_the_way_and_is_gone_is_503(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way, before = scene.insert(FOREIGN_IDENTITY), scene.azure.list_identities()
    before_each(monkeypatch, scene.identities, "find", lambda: scene.identities.remove(in_the_way))
    with pytest.raises(UpstreamUnavailable, match="is gone"):
        scene.ask(None)
    assert scene.made_since(before) == set()


def test_row_that_changes_at_each_healing_is_503(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    row, before = scene.insert(FOREIGN_IDENTITY), scene.azure.list_identities()
    others: list[str] = []

    def interfere() -> None:
        others.append(foreign_identity())
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
def test_healing_that_is_not_written_leaves_no_identity(
    scene: Scene, storage_proxy: StorageProxy, kind: Kind, status: int
) -> None:
    row, before = scene.insert(FOREIGN_IDENTITY), scene.azure.list_identities()
    storage_proxy.plant(Fault(kind=kind, method="PATCH", about=scene.user.id.object_id, status=status))
    with pytest.raises(UpstreamUnavailable):
        scene.ask(row)
    assert scene.row() == row
    assert scene.made_since(before) == set()


def test_healing_that_is_written_but_not_answered_holds(scene: Scene, storage_proxy: StorageProxy) -> None:
    row = scene.insert(FOREIGN_IDENTITY)
    storage_proxy.plant(
        Fault(kind="fail-after-commit", method="PATCH", about=scene.user.id.object_id, times=1)
    )
    issued = scene.ask(row)
    after = scene.existing()
    assert issued.acs_user_id == after.acs_user_id
    assert issued.acs_user_id in scene.azure.list_identities()
