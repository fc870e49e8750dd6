"""Concurrent actions on one user: the one that shuts the user out wins, and none is left half done."""

from collections.abc import Callable
from functools import partial

import pytest
import requests

from tests.support.admin_client import bearer, call, post_token
from tests.support.concurrency import alongside, run_concurrently, wait_until
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import get_session, list_kinds, wait_until_forgotten, wait_until_indexed
from tests.support.service import Service
from tests.support.storage_proxy import Fault
from tests.support.user_lists import find


def act_before(
    world: World, method: str, table: str, person: Person, action: Callable[[], object] | str, skip: int = 0
) -> Fault:
    """Run an action right before a call about the person; a string names an admin action on them."""
    if isinstance(action, str):
        action = partial(world.admin.do, "api", person, action)
    about = person.account.object_id
    if (method, table) == ("GET", "sessions"):
        about = get_session(world.tables, person)["PartitionKey"]
    fault = Fault(kind="signal", method=method, table=table, about=about, skip=skip, times=1, action=action)
    world.storage.plant(fault)
    return fault


def row_of(world: World, person: Person) -> tuple[str, bool]:
    """The identity in the person's one row, and whether it is blocked."""
    (row,) = world.list_rows(person)
    return row["AcsUserId"], row["Blocked"]


def test_actions_of_two_administrators_never_fail(world: World) -> None:
    admins = world.admin, world.new_admin()
    for user in (world.new_user(), world.new_person()):  # the second has no row
        actions = [(admin, action) for admin in admins for action in ("block", "delete", "block")]
        responses = run_concurrently([partial(admin.act, "api", user, action) for admin, action in actions])
        assert {response.status_code for response in responses} <= {200, 204, 409}


def test_endless_competition_is_a_conflict(world: World) -> None:
    """The row changes right before each attempt to change it."""
    person, blocked = world.new_user(), world.new_user()
    world.admin.do("api", blocked, "block")
    csrf = person.csrf_headers()
    code = "UpdateConditionNotSatisfied"
    world.storage.plant(Fault(kind="status", method="PATCH", table="identities", status=412, code=code))
    calls = [partial(world.admin.act, "api", person, action) for action in ("block", "delete")]
    calls += [partial(world.admin.act, "api", blocked, "unblock"), partial(person.erase, csrf)]
    pages = [partial(world.admin.act, "page", person, "delete")]
    responses = run_concurrently([*calls, *pages])
    world.storage.clear()
    for response in responses[:-1]:
        assert "try again" in assert_problem(response, 409, "conflict")["detail"]
    assert "try again" in assert_error_page(responses[-1], 409).get_text()


@pytest.mark.parametrize(
    ("method", "table", "skip"),
    [("GET", "identities", 0), ("POST", "identities", 0), ("GET", "sessions", 1)],
    ids=["before the row is read", "before the row is written", "before the session is read again"],
)
def test_deletion_during_first_token_leaves_nothing(
    world: World, signed_in: Person, method: str, table: str, skip: int
) -> None:
    csrf, before = signed_in.csrf_headers(), set(world.azure.list_identities())
    fault = act_before(world, method, table, signed_in, "delete", skip)
    response = signed_in.token(csrf=csrf)
    assert fault.times == 0
    assert_problem(response, 401, "not_signed_in")
    assert world.list_rows(signed_in) == world.list_sessions(signed_in) == []
    wait_until(lambda: set(world.azure.list_identities()) == before)
    wait_until_forgotten(world.tables, signed_in.account.object_id)


@pytest.mark.parametrize("operation", ["create", "issue"])
def test_deletion_during_acs_call_leaves_nothing(world: World, signed_in: Person, operation: str) -> None:
    admin, before = world.admin, set(world.azure.list_identities())
    if operation == "issue":
        signed_in.get_token()
        wait_until_indexed(world.tables, signed_in.account.object_id)
    csrf = signed_in.csrf_headers()
    world.azure.plant_fault("acs", operation, "delay", seconds=1)

    def delete() -> None:
        wait_until(lambda: not world.azure.list_faults())
        admin.do("api", signed_in, "delete")

    response = alongside(partial(signed_in.token, csrf=csrf), delete)
    assert_problem(response, 401, "not_signed_in")
    assert world.list_rows(signed_in) == []
    wait_until(lambda: set(world.azure.list_identities()) == before)


@pytest.mark.parametrize(("method", "table"), [("POST", "sessions"), ("GET", "identities")])
def test_sign_in_racing_a_block_loses(
    world: World, person: Person, other_service: Service, method: str, table: str
) -> None:
    callback = person.start_sign_in().replace(person.url, other_service.url)
    fault = act_before(world, method, table, person, "block")
    response = person.finish_sign_in(callback)
    assert fault.times == 0
    assert_error_page(response, 403)
    assert world.list_sessions(person) == []


def test_first_token_racing_block_leaves_no_identity(world: World, signed_in: Person) -> None:
    csrf, before = signed_in.csrf_headers(), set(world.azure.list_identities())
    act_before(world, "POST", "identities", signed_in, "block")
    assert signed_in.token(csrf=csrf).status_code in (401, 403)
    wait_until(lambda: set(world.azure.list_identities()) == before)
    assert row_of(world, signed_in) == ("", True)


def test_block_revokes_concurrent_first_token(world: World, person: Person) -> None:
    headers, tokens = bearer(world.azure, person), list[str]()  # no session: the block would end it

    def request_token() -> None:
        tokens.append(post_token(person, headers).json()["token"])

    act_before(world, "POST", "identities", person, request_token)
    world.admin.do("api", person, "block")
    identity, blocked = row_of(world, person)
    assert identity
    assert blocked is True
    assert world.azure.check_token(tokens[0])["valid"] is False


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("by_user", [False, True])
def test_concurrent_deletions_both_succeed(
    world: World, mapped_user: Person, method: str, *, by_user: bool
) -> None:
    identity, headers = world.identity_of(mapped_user), bearer(world.azure, mapped_user)
    skip = 1 if by_user and method == "GET" else 0  # a bearer's own row is read first
    fault = act_before(world, method, "identities", mapped_user, "delete", skip)
    if by_user:
        response = call("DELETE", f"{mapped_user.url}/api/me", headers=headers)
    else:
        response = world.admin.act("api", mapped_user, "delete")
    assert fault.times == 0
    assert response.status_code == 204, response.text
    assert world.list_rows(mapped_user) == []
    assert identity not in world.azure.list_identities()


def test_deletion_survives_contention(world: World, mapped_user: Person) -> None:
    """Others change the row five times between the deletion's read and its mark."""
    about, code = mapped_user.account.object_id, "UpdateConditionNotSatisfied"
    fault = Fault(kind="status", status=412, code=code, method="PATCH", about=about, also="Deleting", times=5)
    world.storage.plant(fault)
    world.admin.do("api", mapped_user, "delete")
    assert fault.times == 0
    assert world.list_rows(mapped_user) == []


def test_block_survives_concurrent_deletion(world: World, mapped_user: Person) -> None:
    identity = world.identity_of(mapped_user)
    act_before(world, "DELETE", "identities", mapped_user, "block")
    world.admin.do("api", mapped_user, "delete")
    assert row_of(world, mapped_user) == ("", True)
    assert identity not in world.azure.list_identities()


def test_deletion_during_an_unblock_leaves_no_row(world: World, mapped_user: Person) -> None:
    world.admin.do("api", mapped_user, "block")
    identity = world.identity_of(mapped_user)
    act_before(world, "PATCH", "identities", mapped_user, "delete")
    world.admin.do("api", mapped_user, "unblock")
    assert world.list_rows(mapped_user) == []
    assert identity not in world.azure.list_identities()


def test_block_during_an_unblock_is_not_lost(world: World, mapped_user: Person) -> None:
    admin, object_id = world.admin, mapped_user.account.object_id
    admin.do("api", mapped_user, "block")
    block = partial(admin.do, "page", mapped_user, "block", reason="on second thoughts")
    act_before(world, "PATCH", "identities", mapped_user, block)
    admin.do("api", mapped_user, "unblock")
    # Row and index agree, regardless of the order.
    blocked = admin.get_user(mapped_user)["blocked"]
    status = "blocked" if blocked else "active"
    assert find(admin, q=mapped_user.account.username, status=status) == [object_id]
    lists = {"n", "t", "bn", "bt"} if blocked else {"n", "t"}
    wait_until(lambda: list_kinds(world.tables, object_id) == lists)


def test_return_during_deletion_keeps_new_identity(world: World, mapped_user: Person) -> None:
    former, responses = world.identity_of(mapped_user), list[requests.Response]()

    def come_back() -> None:
        responses.append(mapped_user.signed_in().token())

    act_before(world, "DELETE", "identities", mapped_user, come_back)
    world.admin.do("api", mapped_user, "delete")
    identity = responses[0].json()["user"]["communicationUserId"]
    assert world.identity_of(mapped_user) == identity != former
    assert world.azure.check_token(responses[0].json()["token"])["valid"] is True
    assert former not in world.azure.list_identities()
    assert mapped_user.token().json()["user"]["communicationUserId"] == identity
