"""Administrators' actions take effect on the user's next request, at every instance."""

from collections.abc import Callable
from functools import partial

import pytest
from flask import Flask

from tests.support.admin_client import CHANNELS, Admin, assert_signed_out, bearer, call, finish_sign_in_at
from tests.support.commands import run_command
from tests.support.concurrency import run_concurrently
from tests.support.cookies import SESSION
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import wait_until_forgotten
from tests.support.service import Service
from tests.support.user_lists import find

UNKNOWN_ID = "f00d0000-0000-4000-8000-000000000001"
Do = Callable[..., object]


@pytest.fixture(params=[*CHANNELS, "command"])
def do(request: pytest.FixtureRequest, admin: Admin, application: Flask) -> Do:
    """Act on a user through an admin page, the API or the command line."""

    def run(person: Person, action: str, **fields: str) -> None:
        options = [part for name, value in fields.items() for part in (f"--{name}", value)]
        options += {"delete": ["--yes"], "block": ["--no-wait"]}.get(action, [])
        assert run_command(application, "users", action, person.key, *options).exit_code == 0

    return run if request.param == "command" else partial(admin.do, request.param)


def test_block_ends_all_access_at_every_instance(
    world: World, admin: Admin, mapped_user: Person, other_service: Service, do: Do
) -> None:
    azure, urls, identity = world.azure, (other_service.url, mapped_user.url), world.identity_of(mapped_user)
    token, presented = mapped_user.get_token(), bearer(azure, mapped_user)
    assert call("GET", f"{other_service.url}/api/me", headers=presented).status_code == 200
    do(mapped_user, "block")
    assert_signed_out(mapped_user, *urls)
    for url in urls:
        assert_problem(call("GET", f"{url}/api/me", headers=presented), 403, "blocked")
        assert_problem(call("POST", f"{url}/api/token", headers=presented), 403, "blocked")
        assert_error_page(finish_sign_in_at(mapped_user, url), 403)
    assert_signed_out(mapped_user, mapped_user.url)
    assert azure.check_token(token)["valid"] is False
    assert admin.get_user(mapped_user)["blocked"] is True
    do(mapped_user, "unblock")
    assert_signed_out(mapped_user, other_service.url)  # unblocking restores no session
    by_bearer = call("POST", f"{other_service.url}/api/token", headers=presented).json()
    by_session = mapped_user.signed_in().at(other_service.url).token().json()
    assert by_bearer["user"] == by_session["user"] == {"communicationUserId": identity}
    assert azure.check_token(by_bearer["token"])["valid"] is True
    assert admin.get_user(mapped_user)["blocked"] is False
    assert world.identity_of(mapped_user) == identity


def test_unknown_user_can_be_blocked_in_advance(world: World, admin: Admin, person: Person, do: Do) -> None:
    do(person, "block")
    user = admin.get_user(person)
    assert (user["communicationUserId"], user["lastTokenAt"], user["blocked"]) == (None, None, True)
    (row,) = world.list_rows(person)
    assert (row["AcsUserId"], row["Blocked"]) == ("", True)
    assert_error_page(person.sign_in(), 403)
    assert SESSION not in person.http.cookies
    assert world.list_sessions(person) == []
    do(person, "unblock")
    assert world.find_row(person) is None
    assert person.signed_in().get_token()


def test_delete_removes_all_user_data(
    world: World, admin: Admin, mapped_user: Person, other_service: Service, do: Do
) -> None:
    token, identity, account = mapped_user.get_token(), world.identity_of(mapped_user), mapped_user.account
    assert find(admin, q=account.username) == [account.object_id]
    do(mapped_user, "delete")
    assert_signed_out(mapped_user, other_service.url, mapped_user.url)
    assert world.list_rows(mapped_user) == world.list_sessions(mapped_user) == []
    for q in (account.username, account.object_id, mapped_user.key, identity):
        assert find(admin, q=q) == []
    wait_until_forgotten(world.tables, account.object_id)
    assert identity not in world.azure.list_identities()
    assert world.azure.check_token(token)["valid"] is False
    assert_problem(admin.fetch_user(mapped_user), 404, "not_found")
    do(mapped_user, "delete")  # also without a row
    response = mapped_user.signed_in().token()
    assert response.json()["user"]["communicationUserId"] == world.identity_of(mapped_user) != identity


def test_block_survives_user_deletion(
    world: World, admin: Admin, mapped_user: Person, other_service: Service, do: Do
) -> None:
    identity, presented = world.identity_of(mapped_user), bearer(world.azure, mapped_user)
    do(mapped_user, "block", reason="left on Friday")
    do(mapped_user, "delete")
    (row,) = world.list_rows(mapped_user)
    assert (row["AcsUserId"], row["Blocked"]) == ("", True)
    assert mapped_user.account.username not in f"{row}"
    assert identity not in world.azure.list_identities()
    user = admin.get_user(mapped_user)
    assert (user["communicationUserId"], user["name"], user["blocked"]) == (None, "", True)
    assert mapped_user.account.object_id in find(admin, status="blocked")
    assert_error_page(finish_sign_in_at(mapped_user, other_service.url), 403)
    assert_problem(call("POST", f"{other_service.url}/api/token", headers=presented), 403, "blocked")
    do(mapped_user, "delete")
    assert world.find_row(mapped_user) is not None
    do(mapped_user, "unblock")
    assert world.find_row(mapped_user) is None
    assert_problem(admin.fetch_user(mapped_user), 404, "not_found")
    wait_until_forgotten(world.tables, mapped_user.account.object_id)


def test_revoke_ends_tokens_and_sign_out_sessions(
    world: World, mapped_user: Person, other_service: Service, do: Do
) -> None:
    second, identity = mapped_user.in_new_browser(), world.identity_of(mapped_user)
    tokens = [mapped_user.get_token() for _ in range(2)]
    do(mapped_user, "revoke")
    assert [world.azure.check_token(token)["valid"] for token in tokens] == [False, False]
    again = mapped_user.at(other_service.url).token().json()
    assert again["user"] == {"communicationUserId": identity}
    do(mapped_user, "sign-out")
    for browser in (mapped_user, second):
        assert_signed_out(browser, other_service.url, mapped_user.url)
    assert world.azure.check_token(again["token"])["valid"] is True
    mapped_user.signed_in()


@pytest.mark.parametrize("action", ["delete", "sign-out"])
def test_session_without_token_is_ended(world: World, signed_in: Person, action: str, do: Do) -> None:
    do(signed_in, action)
    assert_signed_out(signed_in, signed_in.url)
    assert world.find_row(signed_in) is None


def test_actions_return_the_updated_user(admin: Admin, mapped_user: Person) -> None:
    before = admin.get_user(mapped_user)
    assert before["communicationUserId"]
    for action, blocked in (("revoke", False), ("sign-out", False), ("block", True), ("unblock", False)):
        response = admin.do("api", mapped_user, action)
        assert list(response.json()) == list(before)
        assert response.json() == before | {"blocked": blocked}
        assert response.headers["Cache-Control"] == "no-store"


def test_user_key_is_case_insensitive(world: World, admin: Admin, mapped_user: Person) -> None:
    assert admin.get_user(mapped_user.key.upper()) == admin.get_user(mapped_user)
    keys = [mapped_user.key, mapped_user.key.upper()] * 3
    run_concurrently([partial(admin.do, "api", key, "block") for key in keys])
    assert admin.get_user(mapped_user)["blocked"] is True
    assert len(world.list_rows(mapped_user)) == 1


def test_action_on_unknown_user_is_404(admin: Admin, person: Person) -> None:
    elsewhere = f"{UNKNOWN_ID}/{person.account.object_id}"  # in a tenant that is not allowed
    for target, action in ((person, "unblock"), (person, "revoke"), (elsewhere, "block")):
        assert_error_page(admin.act("page", target, action), 404)
        assert_problem(admin.act("api", target, action), 404, "not_found")
    assert find(admin, q=person.account.object_id) == []
    for path in ("x/y", UNKNOWN_ID, f"{UNKNOWN_ID}/{UNKNOWN_ID}x", "../..", "%00/%00"):
        assert_problem(admin.fetch_user(path), 404, "not_found")
        assert_problem(admin.act("api", path, "block"), 404, "not_found")
