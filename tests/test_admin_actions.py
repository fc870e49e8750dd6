"""What an administrator does to a user holds on the very next request, at every instance."""

from collections.abc import Callable
from functools import partial

import pytest
from azure.data.tables import TableServiceClient

from tests.support.desk import (
    WAYS,
    Desk,
    Way,
    assert_signed_out,
    bearer,
    call,
    finish_sign_in_at,
)
from tests.support.identity_rows import find_identity_row, get_identity, list_identity_rows
from tests.support.index_rows import wait_until_forgotten
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.together import alongside, run_together, wait_until
from tests.support.user_lists import find

SWEEP_SECONDS = 20
"""After a block, tokens that were being issued meanwhile are revoked within this time."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """By the pages' forms, and by the API."""
    chosen: Way = request.param
    return chosen


def test_block_ends_everything_at_the_other_instance(
    way: Way, azure: LocalAzure, desk: Desk, settled: Person, service: Service, other_service: Service
) -> None:
    token = settled.token().json()["token"]
    presented = bearer(azure, settled)
    assert call("GET", f"{other_service.url}/api/me", headers=presented).status_code == 200
    desk.do(way, settled, "block")
    assert_signed_out(settled, other_service.url, service.url)
    for url in (other_service.url, service.url):
        assert_problem(call("GET", f"{url}/api/me", headers=presented), 403, "blocked")
        assert_problem(call("POST", f"{url}/api/token", headers=presented), 403, "blocked")
        assert_error_page(finish_sign_in_at(settled, url), 403)
    assert_signed_out(settled, service.url)
    assert azure.check_token(token)["valid"] is False
    assert desk.get_user(settled)["blocked"] is True


def test_unblock_lets_in_again_with_the_same_identity(
    way: Way,
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    other_service: Service,
) -> None:
    identity, presented = get_identity(tables, settled), bearer(azure, settled)
    desk.do(way, settled, "block")
    desk.do(way, settled, "unblock")
    assert_signed_out(settled, other_service.url)  # sessions do not come back
    answer = call("POST", f"{other_service.url}/api/token", headers=presented)
    assert answer.json()["user"] == {"communicationUserId": identity}
    assert azure.check_token(answer.json()["token"])["valid"] is True
    assert settled.sign_in().status_code == 302
    assert settled.at(other_service.url).token().json()["user"] == {"communicationUserId": identity}
    assert desk.get_user(settled)["blocked"] is False
    assert get_identity(tables, settled) == identity


def test_somebody_who_never_came_is_blocked_before_they_come(
    way: Way, tables: TableServiceClient, desk: Desk, person: Person, other_service: Service
) -> None:
    desk.do(way, person, "block")
    user = desk.get_user(person)
    assert (user["communicationUserId"], user["lastTokenAt"], user["blocked"]) == (None, None, True)
    (row,) = list_identity_rows(tables, person)
    assert (row["AcsUserId"], row["Blocked"]) == ("", True)
    assert_error_page(finish_sign_in_at(person, other_service.url), 403)
    assert list_sessions(tables, person) == []
    desk.do(way, person, "unblock")
    assert find_identity_row(tables, person) is None
    assert person.sign_in().status_code == 302
    assert person.token().status_code == 200


def test_delete_leaves_nothing_of_a_user(
    way: Way,
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    service: Service,
    other_service: Service,
) -> None:
    token, identity = settled.token().json()["token"], get_identity(tables, settled)
    assert find(desk, q=settled.account.username) == [settled.account.object_id]
    desk.do(way, settled, "delete")
    assert_signed_out(settled, other_service.url, service.url)
    assert list_identity_rows(tables, settled) == list_sessions(tables, settled) == []
    wait_until_forgotten(tables, settled.account.object_id)
    assert identity not in azure.list_identities()
    assert azure.check_token(token)["valid"] is False
    assert_problem(desk.look_at(settled), 404, "not_found")
    desk.do(way, settled, "delete")  # with or without a row


def test_deleted_user_who_comes_again_gets_another_identity(
    tables: TableServiceClient, desk: Desk, settled: Person
) -> None:
    before = get_identity(tables, settled)
    desk.do("api", settled, "delete")
    assert settled.sign_in().status_code == 302
    answer = settled.token()
    assert answer.json()["user"]["communicationUserId"] == get_identity(tables, settled) != before


def test_block_outlives_the_deletion_of_the_user(
    way: Way,
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    other_service: Service,
) -> None:
    identity, presented = get_identity(tables, settled), bearer(azure, settled)
    desk.do(way, settled, "block", reason="left on Friday")
    desk.do(way, settled, "delete")
    (row,) = list_identity_rows(tables, settled)
    assert (row["AcsUserId"], row["Blocked"]) == ("", True)
    assert settled.account.username not in f"{row}"
    assert identity not in azure.list_identities()
    user = desk.get_user(settled)
    assert (user["communicationUserId"], user["name"], user["blocked"]) == (None, "", True)
    assert_error_page(finish_sign_in_at(settled, other_service.url), 403)
    assert_problem(call("POST", f"{other_service.url}/api/token", headers=presented), 403, "blocked")
    desk.do(way, settled, "delete")
    assert find_identity_row(tables, settled) is not None
    desk.do(way, settled, "unblock")
    assert find_identity_row(tables, settled) is None
    assert_problem(desk.look_at(settled), 404, "not_found")
    wait_until_forgotten(tables, settled.account.object_id)


def test_revoke_ends_tokens_and_leaves_sessions(
    way: Way,
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    other_service: Service,
) -> None:
    tokens = [settled.token().json()["token"] for _ in range(2)]
    identity = get_identity(tables, settled)
    desk.do(way, settled, "revoke")
    assert [azure.check_token(token)["valid"] for token in tokens] == [False, False]
    again = settled.at(other_service.url).token()
    assert again.json()["user"] == {"communicationUserId": identity}
    assert azure.check_token(again.json()["token"])["valid"] is True


def test_sign_out_ends_every_session_and_leaves_tokens(
    way: Way, azure: LocalAzure, desk: Desk, settled: Person, service: Service, other_service: Service
) -> None:
    second = Person(azure, settled.url, settled.account)
    assert second.sign_in().status_code == 302
    token = settled.token().json()["token"]
    desk.do(way, settled, "sign-out")
    for browser in (settled, second):
        assert_signed_out(browser, other_service.url, service.url)
    assert azure.check_token(token)["valid"] is True
    assert settled.sign_in().status_code == 302


def test_one_session_is_ended_by_its_form(
    azure: LocalAzure, tables: TableServiceClient, desk: Desk, settled: Person, other_service: Service
) -> None:
    (kept,) = list_sessions(tables, settled)
    second = Person(azure, settled.url, settled.account)
    assert second.sign_in().status_code == 302
    (chosen,) = [row for row in list_sessions(tables, settled) if row["RowKey"] != kept["RowKey"]]
    desk.do("page", settled, "sign-out", session=chosen["RowKey"])
    assert_signed_out(second, other_service.url)
    assert settled.at(other_service.url).get("/api/me").status_code == 200


@pytest.mark.parametrize("action", ["unblock", "revoke"])
def test_action_that_needs_a_row_is_404_without_one(
    way: Way, desk: Desk, person: Person, action: str
) -> None:
    answer = desk.act(way, person, action)
    if way == "page":
        assert_error_page(answer, 404)
    else:
        assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize("action", ["delete", "sign-out"])
def test_action_that_needs_no_row_succeeds_without_one(
    way: Way, tables: TableServiceClient, desk: Desk, person: Person, action: str
) -> None:
    desk.do(way, person, action)
    assert find_identity_row(tables, person) is None


def test_session_that_never_had_a_token_ends_with_a_deletion(way: Way, desk: Desk, signed_in: Person) -> None:
    desk.do(way, signed_in, "delete")
    assert_signed_out(signed_in, signed_in.url)


def test_actions_answer_with_the_user_as_they_now_are(desk: Desk, settled: Person) -> None:
    before = desk.get_user(settled)
    assert before["communicationUserId"]
    for action, blocked in (("revoke", False), ("sign-out", False), ("block", True), ("unblock", False)):
        answer = desk.do("api", settled, action)
        assert list(answer.json()) == list(before)
        assert answer.json() == before | {"blocked": blocked}
        assert answer.headers["Cache-Control"] == "no-store"


def test_ids_in_capitals_mean_the_same_user(desk: Desk, settled: Person) -> None:
    assert desk.get_user(settled.key.upper()) == desk.get_user(settled)
    desk.do("api", settled.key.upper(), "block")
    assert desk.get_user(settled)["blocked"] is True


def test_many_blocks_at_once_leave_one_row(
    tables: TableServiceClient, desk: Desk, new_person: Callable[..., Person]
) -> None:
    person = new_person()
    assert desk.csrf
    run_together([partial(desk.do, "api", person, "block") for _ in range(6)])
    assert len(list_identity_rows(tables, person)) == 1


def block_when_held(azure: LocalAzure, desk: Desk, person: Person) -> None:
    """Block the person while their token is being issued."""
    wait_until(lambda: not azure.list_faults())
    desk.do("api", person, "block")


def test_token_that_was_being_issued_during_a_block_is_dead_soon(
    azure: LocalAzure, desk: Desk, settled: Person
) -> None:
    csrf = settled.csrf_headers()
    azure.plant_fault("acs", "issue", "delay", seconds=2)
    answer = alongside(partial(settled.token, csrf=csrf), lambda: block_when_held(azure, desk, settled))
    token = answer.json()["token"]
    wait_until(lambda: azure.check_token(token)["valid"] is False, SWEEP_SECONDS)


NOBODY = "f00d0000-0000-4000-8000-000000000001"


@pytest.mark.parametrize("path", ["x/y", NOBODY, f"{NOBODY}/{NOBODY}x", "../..", "%00/%00"])
def test_what_is_no_user_id_is_404(desk: Desk, path: str) -> None:
    assert_problem(desk.look_at(path), 404, "not_found")
    assert_problem(desk.act("api", path, "block"), 404, "not_found")
