"""Administrators do not shut out themselves, nor, without saying so twice, the last of them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import requests

from tests.support.admin_client import CHANNELS, Admin, Channel, bearer, call, get_me, take_role
from tests.support.commands import CommandFailed, run_users
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.own_azure import World, own_azure
from tests.support.pages import assert_error_page, read_page
from tests.support.problems import assert_problem
from tests.support.rows import list_rows, merge_row
from tests.support.storage_proxy import Fault

TWICE = "last-administrator"


@pytest.fixture
def world() -> Iterator[World]:
    """Administrators are counted over the whole storage."""
    with own_azure() as running:
        yield running


def count_administrators(world: World) -> int:
    rows = list_rows(world.tables, "administrators", "PartitionKey", "administrators")
    return sum(bool(row["Role"]) and not row["Application"] for row in rows)


def by_application(world: World, target: str, action: str, **query: str) -> requests.Response:
    token, _ = world.azure.mint_tokens(app=True)
    url = f"{world.service.url}/api/admin/users/{target}/{action}"
    return call("POST", url, params=query, headers={"Authorization": f"Bearer {token}"})


def test_administrators_cannot_shut_out_themselves(world: World) -> None:
    admin, another = world.new_admin(), world.new_admin()
    own = bearer(world.azure, admin.person)
    for action in ("block", "delete"):
        assert_error_page(admin.act("page", admin.person, action, confirm=TWICE), 409)
        assert_error_page(admin.person.get(f"/admin/users/{admin.person.key}/confirm/{action}"), 409)
        assert_problem(admin.act("api", admin.person.key.upper(), action), 409, "conflict")
        url = f"{world.service.url}/api/admin/users/{admin.person.key}/{action}?confirm={TWICE}"
        assert_problem(call("POST", url, headers=own), 409, "conflict")
        assert admin.person.is_signed_in()
    assert admin.person.erase().status_code == 204  # their own data are theirs
    assert another.person.submit("/account/delete").status_code == 303


def test_application_confirms_removal_of_last_administrator(world: World) -> None:
    admin, another = world.new_admin(), world.new_admin()
    wait_until(lambda: count_administrators(world) == 2)
    assert by_application(world, another.person.key, "block").status_code == 200
    for action in ("block", "delete"):
        assert_problem(by_application(world, admin.person.key, action), 409, "conflict")
        assert_problem(by_application(world, admin.person.key, action, confirm="x"), 400, "invalid_request")
    assert admin.person.is_signed_in()
    assert by_application(world, admin.person.key, "delete", confirm=TWICE).status_code == 204
    assert not admin.person.is_signed_in()


def test_administrators_unseen_for_long_do_not_count(world: World) -> None:
    admin, another = world.new_admin(), world.new_admin()
    wait_until(lambda: count_administrators(world) == 2)
    key = another.person.key.replace("/", ".")
    unseen = {"SeenAt": datetime.now(UTC) - timedelta(days=91)}
    merge_row(world.tables, "administrators", ("administrators", key), unseen)
    assert_problem(by_application(world, admin.person.key, "block"), 409, "conflict")
    assert get_me(admin.person, bearer(world.azure, world.new_person())).status_code == 200
    wait_until(lambda: count_administrators(world) == 1)
    another.person.signed_in()
    wait_until(lambda: count_administrators(world) == 2)
    assert admin.person.get("/api/me/export").json()["administratorSeenAt"]
    assert by_application(world, admin.person.key, "block").status_code == 200


def test_operator_confirms_removal_of_last_administrator(world: World) -> None:
    admin = world.new_admin()
    wait_until(lambda: count_administrators(world) == 1)
    for arguments in (["block", "--no-wait"], ["delete", "--yes"]):
        with pytest.raises(CommandFailed, match="--last-administrator"):
            run_users(world.service.env, *arguments, admin.person.key)
        assert admin.person.is_signed_in()
    run_users(world.service.env, "block", "--no-wait", "--last-administrator", admin.person.key)
    assert not admin.person.is_signed_in()


@pytest.mark.parametrize("channel", CHANNELS)
def test_page_asks_twice_for_last_administrator(world: World, channel: Channel) -> None:
    """The other one has lost the role since their session began."""
    admin, former = world.new_admin(), world.new_admin()
    take_role(world.azure, former.person)
    assert get_me(former.person, bearer(world.azure, former.person)).status_code == 200
    wait_until(lambda: count_administrators(world) == 1)
    if channel == "api":
        assert_problem(former.act("api", admin.person, "block"), 409, "conflict")
        return
    page = read_page(former.person, f"/admin/users/{admin.person.key}/confirm/block")
    assert page.select_one(f"input[type=checkbox][name=confirm][value={TWICE}][required]") is not None
    assert_error_page(former.act("page", admin.person, "block"), 409)
    assert admin.person.is_signed_in()
    former.do("page", admin.person, "block", confirm=TWICE)
    assert not admin.person.is_signed_in()


def test_two_administrators_cannot_remove_each_other(world: World) -> None:
    first, second = world.new_admin(), world.new_admin()
    wait_until(lambda: count_administrators(world) == 2)
    # Both requests are admitted before either takes effect.
    world.storage.plant(Fault(kind="delay", method="P", table="audit", seconds=1.0))

    def block(admin: Admin, target: Admin) -> int:
        return admin.act("api", target.person, "block").status_code

    assert {first.csrf, second.csrf}  # known before the race
    actions = [partial(block, first, second), partial(block, second, first)]
    statuses = run_concurrently(actions)
    world.storage.clear()
    assert sorted(statuses) == [200, 409]
    assert [first.person.is_signed_in(), second.person.is_signed_in()].count(True) == 1


def test_unreadable_list_of_administrators_stops_no_block(world: World) -> None:
    admin, person = world.new_admin(), world.new_user()
    world.storage.plant(Fault(kind="status", table="administrators"))
    admin.do("api", person, "block")
    assert not person.is_signed_in()
