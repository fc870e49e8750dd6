"""Provisioning with concurrent writers to the same row: one identity or none."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pytest
import structlog

from tests.support.local_azure import LocalAzure
from tests.support.new_table import new_table
from tests.support.person import Person
from tests.support.settings import TENANT
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.access.provisioning import Provisioning
from trusted_service.access.replacement_brake import ReplacementBrake
from trusted_service.access.resource_pin import ResourcePin
from trusted_service.background import BackgroundTasks, Task
from trusted_service.errors import NotSignedIn, UpstreamError, UpstreamUnavailable, WrongResource
from trusted_service.models import Identity, IssuedToken, TokenRequest, User, UserId
from trusted_service.services import Services
from trusted_service.storage.identities import IdentityTable

ENDED_SESSION = f"{'0' * 32}/{'0' * 64}"


class ImmediateTasks(BackgroundTasks):
    """Runs delayed tasks immediately."""

    def _schedule(self, seconds: float, task: Task) -> None:
        task()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Provisioning without a grace period, and a user without a row."""

    azure: LocalAzure
    storage: StorageProxy
    provisioning: Provisioning
    user: User

    @property
    def identities(self) -> IdentityTable:
        return self.provisioning.identities

    def find_row(self) -> Identity | None:
        return self.identities.find(self.user.id)

    def get_row(self) -> Identity:
        row = self.find_row()
        assert row is not None
        return row

    @contextmanager
    def fails(self, error: type[Exception], match: str | None = None) -> Iterator[None]:
        """Check that the `with` block raises this error and leaves no new identity."""
        before = set(self.azure.list_identities())
        with pytest.raises(error, match=match):
            yield
        assert set(self.azure.list_identities()) <= before

    def insert(self, acs_user_id: str | None = None) -> Identity:
        """Insert a row that names this identity or, by default, one that does not exist."""
        named = self.azure.new_unknown_identity() if acs_user_id is None else acs_user_id
        now = datetime.now(UTC)
        row = Identity(user_id=self.user.id, acs_user_id=named or None, created_at=now, last_token_at=now)
        return self.identities.insert(row)

    def run_before(
        self, method: str, table: str, action: Callable[[], object], *, times: int | None = 1, also: str = ""
    ) -> None:
        """Run the action right before calls about the user's row, or about the ended session."""
        about = ENDED_SESSION[:32] if table == "sessions" else self.user.id.object_id
        fault = Fault(kind="signal", method=method, table=table, about=about, also=also, action=action)
        self.storage.plant(replace(fault, times=times))

    def issue(self, row: Identity | None, *, signed_in: bool = True) -> IssuedToken:
        session_key = None if signed_in else ENDED_SESSION
        request = TokenRequest(user=self.user, scopes=("chat",), minutes=60, session_key=session_key)
        return self.provisioning.issue(request, row)


@pytest.fixture
def scene(azure: LocalAzure, storage_proxy: StorageProxy, services: Services) -> Scene:
    shared = services.access.provisioning
    new_identities = replace(shared.new_identities, background=ImmediateTasks())
    provisioning = replace(shared, new_identities=new_identities, brake=ReplacementBrake())
    user = User(id=UserId(TENANT, str(uuid.uuid4())), name="Test Person", username="test@contoso.example")
    return Scene(azure=azure, storage=storage_proxy, provisioning=provisioning, user=user)


@pytest.fixture
def unpinned(scene: Scene, settings: dict[str, str]) -> Scene:
    """The same with empty tables, so that no resource is pinned."""
    table, shared = new_table(settings), scene.provisioning
    identities = IdentityTable(table, table)
    pin = ResourcePin(new_table(settings), identities, shared.communication)
    new_identities = replace(shared.new_identities, identities=identities, pin=pin)
    provisioning = replace(shared, identities=identities, new_identities=new_identities, pin=pin)
    return replace(scene, provisioning=provisioning)


def test_bearer_does_not_restore_deleted_user(scene: Scene) -> None:
    row = scene.insert()
    scene.identities.remove(row)
    with scene.fails(NotSignedIn):
        scene.issue(row)
    assert scene.find_row() is None


@pytest.mark.parametrize("deleting", [False, True])
def test_row_without_identity_gets_one(scene: Scene, deleting: bool) -> None:
    """An unfinished deletion of the user makes no difference."""
    row = scene.insert("")
    if deleting:
        row = scene.identities.update(row, deleting=True)
    issued, after = scene.issue(scene.find_row()), scene.get_row()
    assert (after.acs_user_id, after.deleting) == (issued.acs_user_id, False)
    assert after.version != row.version
    check = scene.azure.check_token(issued.access_token.token)
    assert (check["valid"], check["identity"]) == (True, issued.acs_user_id)


def test_identity_of_foreign_resource_is_never_replaced(scene: Scene, shared_user: Person) -> None:
    """The identity of `shared_user` pins the resource."""
    row = scene.insert(f"8:acs:{uuid.uuid4()}_{uuid.uuid4()}")
    with scene.fails(UpstreamUnavailable):
        scene.issue(row)
    assert scene.find_row() == row


def test_undo_keeps_a_changed_row(scene: Scene) -> None:
    scene.run_before("GET", "sessions", partial(scene.identities.block, scene.user.id, ""))
    with pytest.raises(NotSignedIn):
        scene.issue(None, signed_in=False)
    row = scene.get_row()
    assert row.blocked
    assert row.acs_user_id in scene.azure.list_identities()


def test_deletion_of_a_changed_row_is_not_finished(scene: Scene) -> None:
    deleting = scene.identities.update(scene.insert(), deleting=True)
    scene.identities.update_if_present(scene.user.id, last_token_at=datetime.now(UTC))
    with scene.fails(NotSignedIn):
        scene.issue(deleting)
    assert scene.find_row() is not None


def test_deleted_user_gets_no_token_from_new_row(scene: Scene) -> None:
    inserted = scene.azure.new_unknown_identity()
    scene.run_before("POST", "identities", partial(scene.insert, inserted))
    with scene.fails(NotSignedIn):
        scene.issue(None, signed_in=False)
    with scene.fails(NotSignedIn):
        scene.issue(scene.find_row(), signed_in=False)
    assert scene.get_row().acs_user_id == inserted


@pytest.mark.parametrize(("signed_in", "error"), [(True, UpstreamUnavailable), (False, NotSignedIn)])
def test_deleted_row_stays_deleted(scene: Scene, signed_in: bool, error: type[Exception]) -> None:
    scene.run_before("GET", "identities", partial(scene.identities.remove, scene.insert()))
    with scene.fails(error):
        scene.issue(None, signed_in=signed_in)
    assert scene.find_row() is None


def test_constantly_changing_row_is_an_outage(scene: Scene) -> None:
    row, others = scene.insert(), list[str]()

    def interfere() -> None:
        others.append(scene.azure.new_unknown_identity())
        scene.identities.update(scene.get_row(), acs_user_id=others[-1], indexed=False)

    scene.run_before("PATCH", "identities", interfere, times=None, also='"Switching": true')
    with scene.fails(UpstreamUnavailable, match="changed too often"):
        scene.issue(row)
    assert scene.get_row().acs_user_id == others[-1]


@pytest.mark.parametrize(("status", "unknown"), [(400, False), (429, False), (500, True), (503, True)])
def test_create_with_unknown_outcome_is_logged(scene: Scene, status: int, unknown: bool) -> None:
    scene.azure.plant_fault("acs", "create", "status", status=status, code="TooManyRequests")
    with structlog.testing.capture_logs() as logged, pytest.raises(UpstreamError):
        scene.issue(None)
    events = [line["event"] for line in logged if line.get("user") == str(scene.user.id)]
    assert events == ["identity_may_be_orphaned"] * unknown


def test_identity_that_cannot_be_discarded_is_logged(scene: Scene) -> None:
    scene.azure.plant_fault("acs", "delete", "status", times=None)
    with structlog.testing.capture_logs() as logged, pytest.raises(NotSignedIn):
        scene.issue(None, signed_in=False)
    *postponed, orphaned = (line for line in logged if line.get("user") == str(scene.user.id))
    assert {line["event"] for line in postponed} == {"identity_discard_postponed"}
    assert orphaned["event"] == "identity_orphaned"
    assert orphaned["acs_user_id"] in scene.azure.list_identities()


@pytest.mark.parametrize("kind", ["POST 403", "POST 503", "PATCH 503", "PATCH 400", "PATCH reset"])
def test_failed_row_write_leaves_no_identity(scene: Scene, kind: str) -> None:
    method, how = kind.split()
    row = scene.insert() if method == "PATCH" else None
    fault = Fault(kind="reset") if how == "reset" else Fault(kind="status", status=int(how))
    scene.storage.plant(replace(fault, method=method, about=scene.user.id.object_id))
    with scene.fails(UpstreamUnavailable):
        scene.issue(row)
    assert scene.find_row() == row


@pytest.mark.parametrize("failed_reads", [1, None])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("code", ["InternalError", "ServerBusy"])
def test_identity_in_an_uncertain_row_is_kept(
    scene: Scene, code: str, method: str, failed_reads: int | None
) -> None:
    """The write succeeds without a response, and then reads fail once or always."""
    row, also = (scene.insert(), '"AcsUserId"') if method == "PATCH" else (None, "")
    user = scene.user.id.object_id
    write = Fault(kind="fail-after-commit", method=method, about=user, also=also, times=1, code=code)
    scene.storage.plant(write)
    scene.storage.plant(Fault(kind="status", method="GET", about=user, times=failed_reads))
    with structlog.testing.capture_logs() as logged, pytest.raises(UpstreamError):
        scene.issue(row)
    scene.storage.clear()
    named = scene.get_row().acs_user_id
    assert named in scene.azure.list_identities()
    orphaned = [line["acs_user_id"] for line in logged if line["event"] == "identity_orphaned"]
    assert orphaned == ([named] if failed_reads is None else [])
    assert scene.issue(scene.find_row()).acs_user_id == named


def test_first_identity_pins_its_resource(unpinned: Scene) -> None:
    issued = unpinned.issue(None)
    pin = unpinned.provisioning.pin.find(fresh=True)
    assert pin is not None
    assert issued.acs_user_id.startswith(f"{pin.resource}_")


def test_first_mapping_pins_the_resource(unpinned: Scene) -> None:
    foreign = f"8:acs:{uuid.uuid4()}"
    unpinned.insert(f"{foreign}_{uuid.uuid4()}")
    pin = unpinned.provisioning.pin.find()
    assert pin is not None
    assert pin.resource == foreign
    other = replace(unpinned, user=replace(unpinned.user, id=UserId(TENANT, str(uuid.uuid4()))))
    with other.fails(WrongResource):  # the new identity belongs to another resource
        other.issue(None)
    assert other.find_row() is None
