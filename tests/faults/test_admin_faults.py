"""An admin action that fails at any step lets no user in, and repeating it completes it."""

from dataclasses import dataclass, replace

import pytest
import requests

from tests.support import upstream_calls as calls
from tests.support.admin_client import assert_signed_out, bearer, finish_sign_in_at, post_token
from tests.support.concurrency import timed, wait_until
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.report import RecordCell
from tests.support.rows import get_session, list_index_keys, list_rows
from tests.support.service import Service
from tests.support.storage_proxy import Fault, Kind
from tests.support.upstream_calls import UpstreamCall, fail_call
from tests.support.user_lists import find

CREATION_ROWS = 2
"""Audit rows for a created identity: one among all events, one among the user's."""
TABLE = "step that fails once"
DEADLINE_SECONDS = 11.0
"""The deadline for all upstream calls of one request."""


@dataclass(frozen=True)
class Step:
    """A call that fails once. `shut_out`: the user is shut out by then; `done`: the action still succeeds."""

    name: str
    call: UpstreamCall
    kinds: tuple[Kind, ...] = ("status", "reset", "fail-after-commit")
    shut_out: bool = True
    done: bool = False

    def __str__(self) -> str:
        return self.name


BEFORE: tuple[Kind, ...] = ("status", "reset")
READ: tuple[Kind, ...] = ("status",)
"""The service retries a read whose connection breaks, so only an error status makes it fail."""
SECOND_AUDIT, OUTCOME = replace(calls.AUDIT_WRITE, skip=1), replace(calls.AUDIT_WRITE, skip=2)
INDEX = replace(calls.BATCH, method="POST")
ANY_ACS = UpstreamCall(name="any", acs="*")
BLOCK = [
    Step("first audit row", calls.AUDIT_WRITE, BEFORE, shut_out=False),
    Step("second audit row", SECOND_AUDIT, BEFORE, shut_out=False),
    Step("row", calls.MERGE, BEFORE, shut_out=False),
    Step("row after commit", calls.MERGE, ("fail-after-commit",), done=True),
    Step("row read back", calls.IDENTITY_READ, READ),
    Step("sessions read", calls.SESSIONS_QUERY, READ),
    Step("session deleted", calls.SESSION_DELETE),
    Step("revoke", calls.REVOKE),
    Step("index", INDEX, done=True),
    Step("indexed", replace(calls.MERGE, skip=1), done=True),
    Step("end recorded", replace(calls.MERGE, skip=2)),
    Step("outcome", OUTCOME, done=True),
]
DELETE = [
    Step("first audit row", calls.AUDIT_WRITE, BEFORE, shut_out=False),
    Step("sessions read", calls.SESSIONS_QUERY, READ, shut_out=False),
    Step("session deleted", calls.SESSION_DELETE, shut_out=False),
    Step("row read", calls.IDENTITY_READ, READ),
    Step("row marked", calls.MERGE),
    Step("identity", calls.DELETE),
    Step("index", INDEX),
    Step("row removed", calls.REMOVE),
    Step("outcome", OUTCOME, done=True),
]


@pytest.fixture
def user(world: World, mapped_user: Person) -> Person:
    """A user without pending background tasks, and a signed-in administrator."""
    assert world.admin.csrf
    object_id = mapped_user.account.object_id
    wait_until(lambda: len(list_rows(world.tables, "audit", "TargetObjectId", object_id)) == CREATION_ROWS)
    world.storage.wait_until_quiet(0.2)
    return mapped_user


def each(steps: list[Step]) -> pytest.MarkDecorator:
    cases = [pytest.param(step, kind, id=f"{step}-{kind}") for step in steps for kind in step.kinds]
    return pytest.mark.parametrize(("step", "kind"), cases)


def fail_once(world: World, user: Person, action: str, step: Step, kind: Kind) -> requests.Response:
    """Make this step of an action on the user fail; return the response to the action."""
    # Background tasks for other users must not consume the fault: at Communication Services it is permanent.
    about = "" if step.call.acs else user.account.object_id
    if step.call.table == "sessions":
        about = get_session(world.tables, user)["PartitionKey"]
    fail_call(world, step.call, kind, about=about, times=None if step.call.acs else 1)
    response = world.admin.act("api", user, action)
    world.clear_faults()
    if step.done:
        assert response.status_code == (204 if action == "delete" else 200), response.text
    else:
        assert_problem(response, 503, "upstream_unavailable")
    return response


def record(record_cell: RecordCell, action: str, step: Step, kind: Kind, response: requests.Response) -> None:
    shut_out = "shut out" if step.shut_out else "not yet"
    record_cell(TABLE, f"{action}: {step}", kind, f"{response.status_code}, {shut_out}")


@each(BLOCK)
def test_repeating_a_failed_block_completes_it(
    world: World, user: Person, other_service: Service, record_cell: RecordCell, step: Step, kind: Kind
) -> None:
    azure, url = world.azure, other_service.url
    token, headers = user.get_token(), bearer(azure, user)
    response = fail_once(world, user, "block", step, kind)
    record(record_cell, "block", step, kind, response)
    if step.shut_out:
        assert step.done or "is blocked" in response.json()["detail"]
        assert_problem(post_token(user.at(url), headers), 403, "blocked")
        wait_until(lambda: not world.list_rows(user)[0]["Blocking"])  # a background task does the rest
        assert azure.check_token(token)["valid"] is False
        assert_signed_out(user, url)
        assert_error_page(finish_sign_in_at(user, url), 403)
    else:
        assert azure.check_token(token)["valid"] is True
        assert post_token(user.at(url), headers).status_code == 200
    world.admin.do("api", user, "block")
    assert_signed_out(user, url)
    assert azure.check_token(token)["valid"] is False
    assert find(world.admin, q=user.account.username, status="blocked") == [user.account.object_id]


@each(DELETE)
def test_repeating_a_failed_deletion_completes_it(
    world: World, user: Person, other_service: Service, record_cell: RecordCell, step: Step, kind: Kind
) -> None:
    token, identity = user.get_token(), world.identity_of(user)
    response = fail_once(world, user, "delete", step, kind)
    record(record_cell, "delete", step, kind, response)
    if step.shut_out:
        assert_signed_out(user, other_service.url)
    world.admin.do("api", user, "delete")
    assert_signed_out(user, other_service.url)
    assert world.azure.check_token(token)["valid"] is False
    assert identity not in world.azure.list_identities()
    assert world.list_rows(user) == world.list_sessions(user) == []
    assert list_index_keys(world.tables, user.account.object_id) == []


@each([step for step in DELETE if not step.done])
def test_returning_user_has_one_identity_after_failed_deletion(
    world: World, user: Person, step: Step, kind: Kind
) -> None:
    before, identity = set(world.azure.list_identities()), world.identity_of(user)
    fail_once(world, user, "delete", step, kind)
    response = user.signed_in().token()
    assert response.status_code == 200, response.text
    now = world.identity_of(user)
    assert response.json()["user"] == {"communicationUserId": now}
    assert set(world.azure.list_identities()) - (before - {identity}) == {now}
    assert world.azure.check_token(response.json()["token"])["valid"] is True


def test_repeating_a_failed_unblock_completes_it(world: World) -> None:
    person = world.new_person()
    world.admin.do("api", person, "block")
    fail_call(world, INDEX, "status", about=person.account.object_id, times=1)
    assert_problem(world.admin.act("api", person, "unblock"), 503, "upstream_unavailable")
    world.clear_faults()
    world.admin.act("api", person, "unblock")
    assert world.find_row(person) is None
    assert list_index_keys(world.tables, person.account.object_id) == []


@pytest.mark.parametrize("action", ["block", "unblock", "revoke", "delete"])
def test_upstream_throttling_is_passed_on(world: World, user: Person, action: str) -> None:
    call = UpstreamCall(name="identities", table="identities") if action == "unblock" else ANY_ACS
    about = user.account.object_id if action == "unblock" else ""
    fail_call(world, call, "status", about=about, status=429, retry_after="7")
    response = world.admin.act("api", user, action)
    assert_problem(response, 503, "upstream_throttled")
    assert response.headers["Retry-After"] == "7"
    world.clear_faults()
    world.admin.do("api", user, action)


@pytest.mark.parametrize(("action", "reads"), [("sign-out", 0), ("delete", 2)])
def test_read_after_an_action_hides_no_success(world: World, user: Person, action: str, reads: int) -> None:
    fail_call(world, replace(calls.IDENTITY_READ, skip=reads), "status", about=user.account.object_id)
    response = world.admin.act("page", user, action)
    assert (response.status_code, f"done={action}" in response.headers["Location"]) == (303, True)
    if action == "sign-out":
        problem = assert_problem(world.admin.act("api", user, action), 503, "upstream_unavailable")
        assert "is done" in problem["detail"]


def test_block_says_that_its_outcome_is_unknown(world: World, user: Person) -> None:
    about = user.account.object_id
    world.storage.plant(Fault(kind="fail-after-commit", method="PATCH", table="identities", about=about))
    fail_reads = Fault(kind="status", method="GET", table="identities", about=about)
    world.run_before("P", "audit", "all", lambda: world.storage.plant(fail_reads), also='"block"')
    problem = assert_problem(world.admin.act("api", user, "block"), 503, "upstream_unavailable")
    assert "not known" in problem["detail"]
    world.clear_faults()
    wait_until(lambda: not user.is_signed_in())  # a background task finishes it


def test_action_past_deadline_is_audited_as_failed(world: World, user: Person) -> None:
    object_id = user.account.object_id
    session = get_session(world.tables, world.admin.person)["PartitionKey"]
    fail_call(world, calls.SESSION_READ, "delay", about=session, seconds=4.5, times=1)
    fail_call(world, calls.AUDIT_WRITE, "delay", about=object_id, seconds=4.5, times=1)
    fail_call(world, calls.REVOKE, "hang")
    response, seconds = timed(lambda: world.admin.act("api", user, "revoke"))
    assert_problem(response, 503, "upstream_unavailable")
    assert seconds >= DEADLINE_SECONDS
    rows = list_rows(world.tables, "audit", "TargetObjectId", object_id)
    assert {row["Outcome"] for row in rows if row["Action"] == "revoke"} == {"started", "failed"}
