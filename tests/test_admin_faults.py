"""An action that is cut short between any two of its steps lets nobody in, and doing it again finishes it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.desk import Desk, assert_signed_out, bearer, call, finish_sign_in_at
from tests.support.identity_rows import find_identity_row, get_identity, list_identity_rows
from tests.support.index_rows import list_index_keys, wait_until_indexed
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.report import NoteCell
from tests.support.rows import list_rows, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, Kind, StorageProxy
from tests.support.together import wait_until

CREATION_ROWS = 2
"""In the audit trail, of a user whose identity was created: among all events, and among the user's."""
TABLE = "step that fails once"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of an action, which fails once; `shut` says whether the user is shut out by then.

    A read whose connection breaks is repeated by the service, so it fails by its status only.
    """

    name: str
    method: str = ""
    table: str = ""
    skip: int = 0
    acs: str = ""
    kinds: tuple[Kind, ...] = ("status", "reset", "fail-after-commit")
    shut: bool = True
    done: bool = False

    def __str__(self) -> str:
        """The name, as pytest shows it."""
        return self.name


BLOCK = [
    Step(name="first audit row", method="P", table="audit", kinds=("status", "reset"), shut=False),
    Step(name="second audit row", method="P", table="audit", skip=1, kinds=("status", "reset"), shut=False),
    Step(name="sessions read", method="GET", table="sessions", skip=1, kinds=("status",), shut=False),
    Step(name="session deleted", method="DELETE", table="sessions", shut=False),
    Step(name="row", method="PATCH", table="identities", kinds=("status", "reset"), shut=False),
    Step(name="row after commit", method="PATCH", table="identities", kinds=("fail-after-commit",)),
    Step(name="sessions read again", method="GET", table="sessions", skip=2, kinds=("status",)),
    Step(name="revoke", acs="revoke", kinds=("status", "reset", "fail-after-commit")),
    Step(name="index", method="POST", table="$batch", done=True),
    Step(name="indexed", method="PATCH", table="identities", skip=1, done=True),
    Step(name="end noted", method="PATCH", table="identities", skip=2),
    Step(name="outcome", method="P", table="audit", skip=2, done=True),
]
DELETE = [
    Step(name="first audit row", method="P", table="audit", kinds=("status", "reset"), shut=False),
    Step(name="sessions read", method="GET", table="sessions", skip=1, kinds=("status",), shut=False),
    Step(name="session deleted", method="DELETE", table="sessions", shut=False),
    Step(name="row read", method="GET", table="identities", kinds=("status",)),
    Step(name="row marked", method="PATCH", table="identities"),
    Step(name="identity", acs="delete"),
    Step(name="index", method="POST", table="$batch"),
    Step(name="row removed", method="DELETE", table="identities"),
    Step(name="outcome", method="P", table="audit", skip=2, done=True),
]


@dataclass(frozen=True)
class Cut:
    """Cuts an action short at a step."""

    azure: LocalAzure
    storage: StorageProxy

    def at(self, step: Step, kind: Kind, person: Person) -> None:
        """Let the step of an action on this person fail once, in this way."""
        if step.acs:
            # Until cleared: the second revocation after an earlier block may come in between.
            self.azure.plant_fault("acs", step.acs, kind, times=None, status=503)
            return
        # What is left to do about other people (a second revocation, say) must not use the fault up.
        about = "" if step.table == "sessions" else person.account.object_id
        self.storage.plant(
            Fault(kind=kind, method=step.method, table=step.table, about=about, skip=step.skip, times=1)
        )

    def clear(self) -> None:
        """Let everything work again."""
        self.azure.clear_faults()
        self.storage.clear()


@pytest.fixture
def cut(azure: LocalAzure, storage_proxy: StorageProxy) -> Cut:
    """Cuts actions short."""
    return Cut(azure, storage_proxy)


@pytest.fixture(scope="module")
def quiet_desk(new_person: Callable[..., Person]) -> Desk:
    """An administrator whose own session costs the steps no call but one read."""
    person = new_person(roles=["TrustedService.Admin"])
    assert person.sign_in().status_code == 302
    desk = Desk(person)
    assert desk.csrf
    return desk


def each(steps: list[Step]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("step", "kind"),
        [pytest.param(step, kind, id=f"{step}-{kind}") for step in steps for kind in step.kinds],
    )


@pytest.fixture
def indexed(tables: TableServiceClient, storage_proxy: StorageProxy, settled: Person) -> Person:
    """Somebody whom searches find: nothing is written about them any more but by what a test does."""
    wait_until_indexed(tables, settled.account.object_id)
    wait_until(
        lambda: len(list_rows(tables, "audit", "TargetObjectId", settled.account.object_id)) == CREATION_ROWS
    )
    storage_proxy.wait_until_quiet(0.2)
    return settled


def outcome_of(answer: requests.Response, step: Step) -> str:
    """The answer, and whether the user was shut out by then; doing it again finishes it in any case."""
    return f"{answer.status_code}, {'shut out' if step.shut else 'not yet'}"


@each(BLOCK)
def test_block_that_was_cut_short_lets_nobody_in_and_is_finished_by_another(
    azure: LocalAzure,
    tables: TableServiceClient,
    quiet_desk: Desk,
    indexed: Person,
    other_service: Service,
    cut: Cut,
    note_cell: NoteCell,
    step: Step,
    kind: Kind,
) -> None:
    token, presented = indexed.token().json()["token"], bearer(azure, indexed)
    cut.at(step, kind, indexed)
    answer = quiet_desk.act("api", indexed, "block")
    cut.clear()
    note_cell(TABLE, f"block: {step}", kind, outcome_of(answer, step))
    if step.done:
        assert answer.status_code == 200, answer.text
    else:
        assert_problem(answer, 503, "upstream_unavailable")
    if step.shut:
        assert_problem(call("POST", f"{other_service.url}/api/token", headers=presented), 403, "blocked")
        assert_signed_out(indexed, other_service.url)
        assert_error_page(finish_sign_in_at(indexed, other_service.url), 403)
    else:
        assert azure.check_token(token)["valid"] is True
        assert call("POST", f"{other_service.url}/api/token", headers=presented).status_code == 200
    quiet_desk.do("api", indexed, "block")
    assert_signed_out(indexed, other_service.url)
    assert azure.check_token(token)["valid"] is False
    listed = quiet_desk.person.get(
        "/api/admin/users", params={"q": indexed.account.username, "status": "blocked"}
    )
    assert [user["objectId"] for user in listed.json()["users"]] == [indexed.account.object_id]


@each(DELETE)
def test_deletion_that_was_cut_short_is_finished_by_another(
    azure: LocalAzure,
    tables: TableServiceClient,
    quiet_desk: Desk,
    indexed: Person,
    other_service: Service,
    cut: Cut,
    note_cell: NoteCell,
    step: Step,
    kind: Kind,
) -> None:
    token, identity = indexed.token().json()["token"], get_identity(tables, indexed)
    cut.at(step, kind, indexed)
    answer = quiet_desk.act("api", indexed, "delete")
    cut.clear()
    note_cell(TABLE, f"delete: {step}", kind, outcome_of(answer, step))
    if step.done:
        assert answer.status_code == 204, answer.text
    else:
        assert_problem(answer, 503, "upstream_unavailable")
    if step.shut:
        assert_signed_out(indexed, other_service.url)
    quiet_desk.do("api", indexed, "delete")
    assert_signed_out(indexed, other_service.url)
    assert azure.check_token(token)["valid"] is False
    assert identity not in azure.list_identities()
    assert list_identity_rows(tables, indexed) == list_sessions(tables, indexed) == []
    assert list_index_keys(tables, indexed.account.object_id) == []


@each([step for step in DELETE if not step.done])
def test_user_who_comes_again_after_a_deletion_that_was_cut_short_has_one_identity(
    azure: LocalAzure,
    tables: TableServiceClient,
    quiet_desk: Desk,
    indexed: Person,
    cut: Cut,
    step: Step,
    kind: Kind,
) -> None:
    before, identity = set(azure.list_identities()), get_identity(tables, indexed)
    cut.at(step, kind, indexed)
    quiet_desk.act("api", indexed, "delete")
    cut.clear()
    assert indexed.sign_in().status_code == 302
    answer = indexed.token()
    assert answer.status_code == 200, answer.text
    (row,) = list_identity_rows(tables, indexed)
    assert answer.json()["user"] == {"communicationUserId": row["AcsUserId"]}
    live = (set(azure.list_identities()) - before) | ({identity} & set(azure.list_identities()))
    assert live == {row["AcsUserId"]}
    assert azure.check_token(answer.json()["token"])["valid"] is True


def test_unblock_that_was_cut_short_is_finished_by_another(
    tables: TableServiceClient, quiet_desk: Desk, person: Person, cut: Cut
) -> None:
    quiet_desk.do("api", person, "block")
    cut.at(Step(name="index", method="POST", table="$batch"), "status", person)
    assert_problem(quiet_desk.act("api", person, "unblock"), 503, "upstream_unavailable")
    cut.clear()
    quiet_desk.act("api", person, "unblock")
    assert find_identity_row(tables, person) is None
    assert list_index_keys(tables, person.account.object_id) == []


@pytest.mark.parametrize("action", ["block", "unblock", "revoke", "delete"])
def test_throttled_upstream_is_passed_on(
    azure: LocalAzure, quiet_desk: Desk, indexed: Person, storage_proxy: StorageProxy, action: str
) -> None:
    if action in ("block", "revoke", "delete"):
        azure.plant_fault("acs", "*", "status", status=429, retryAfter="7", times=None)
    else:
        mine = indexed.account.object_id
        storage_proxy.plant(Fault(kind="status", table="identities", about=mine, status=429, retry_after="7"))
    answer = quiet_desk.act("api", indexed, action)
    assert_problem(answer, 503, "upstream_throttled")
    assert answer.headers["Retry-After"] == "7"
    azure.clear_faults()
    storage_proxy.clear()
    quiet_desk.do("api", indexed, action)
