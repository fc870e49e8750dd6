"""Administrators do not shut out themselves, nor, without saying so twice, the last of them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import requests
from azure.data.tables import TableEntity

from tests.support.admin_client import (
    CHANNELS,
    ROLE,
    Admin,
    Channel,
    bearer,
    call,
    get_me,
    set_roles,
    take_role,
)
from tests.support.commands import CommandFailed, run_users
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.own_azure import World, own_azure
from tests.support.pages import assert_error_page, read_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_rows, merge_row
from tests.support.storage_proxy import Fault
from trusted_service.access.administrators import WRITE_SECONDS

TWICE = "last-administrator"


@pytest.fixture(scope="module")
def own_world() -> Iterator[World]:
    with own_azure() as running:
        yield running


@pytest.fixture
def world(own_world: World) -> World:
    """Administrators are counted over the whole storage."""
    own_world.clear_faults()
    for row in list_administrators(own_world):
        own_world.tables.get_table_client("administrators").delete_entity(row["PartitionKey"], row["RowKey"])
    return own_world


def list_administrators(world: World) -> list[TableEntity]:
    return list_rows(world.tables, "administrators", "PartitionKey", "administrators")


def change_administrator(world: World, admin: Admin, **columns: object) -> None:
    key = admin.person.key.replace("/", ".")
    merge_row(world.tables, "administrators", ("administrators", key), columns)


def count_administrators(world: World) -> int:
    return sum(bool(row["Role"]) for row in list_administrators(world))


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
    change_administrator(world, admin, LeavingAt=datetime.now(UTC))  # somebody tries to block them
    for action in ("block", "delete"):
        assert_problem(by_application(world, admin.person.key, action), 409, "conflict")
        assert_problem(by_application(world, admin.person.key, action, confirm="x"), 400, "invalid_request")
    assert admin.person.is_signed_in()
    assert by_application(world, admin.person.key, "delete", confirm=TWICE).status_code == 204
    assert not admin.person.is_signed_in()


def test_administrators_unseen_for_long_do_not_count(world: World) -> None:
    admin, another = world.new_admin(), world.new_admin()
    wait_until(lambda: count_administrators(world) == 2)
    change_administrator(world, another, SeenAt=datetime.now(UTC) - timedelta(days=91))
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


@pytest.mark.parametrize(("count", "action"), [(2, "block"), (12, "block"), (3, "delete")])
def test_administrators_in_a_ring_leave_one(world: World, count: int, action: str) -> None:
    """Each blocks or deletes the next."""
    admins = [world.new_admin() for _ in range(count)]
    # Both requests are admitted before either takes effect.
    world.storage.plant(Fault(kind="delay", method="P", table="audit", seconds=1.0))

    def act(admin: Admin, target: Admin) -> int:
        return admin.act("api", target.person, action).status_code

    assert all(admin.csrf for admin in admins)  # known before the race
    pairs = zip(admins, [*admins[1:], admins[0]], strict=True)
    statuses = run_concurrently([partial(act, admin, target) for admin, target in pairs])
    world.storage.clear()
    assert set(statuses) <= {200, 204, 409}
    left = [admin.person.is_signed_in() for admin in admins].count(True)
    assert left == statuses.count(409) > 0
    assert left == 1 or count > 2


def test_token_older_than_last_one_changes_nothing(world: World) -> None:
    person = world.new_person()
    before = bearer(world.azure, person)
    set_roles(world.azure, person, ROLE)
    time.sleep(1.1)  # tokens are dated to the second
    person.signed_in()
    assert count_administrators(world) == 1
    assert get_me(person, before).status_code == 200
    during = bearer(world.azure, person)
    time.sleep(2 * WRITE_SECONDS)
    assert count_administrators(world) == 1
    take_role(world.azure, person)
    person.signed_in()
    assert count_administrators(world) == 0  # at once
    url = f"{world.service.url}/api/admin/users"
    assert call("GET", url, headers=during).status_code == 200
    time.sleep(2 * WRITE_SECONDS)
    assert count_administrators(world) == 0


def test_acting_administrator_counts_as_staying(world: World) -> None:
    admin, target = world.new_admin(), world.new_admin()
    now = datetime.now(UTC)
    for columns in ({"SeenAt": now - timedelta(days=91)}, {"LeavingAt": now + timedelta(hours=1)}):
        change_administrator(world, admin, **columns)
        admin.do("api", target.person, "block")
        admin.do("api", target.person, "unblock")
    target = Admin(target.person.signed_in())
    target.do("api", admin.person, "block")
    target.do("api", admin.person, "unblock")
    Admin(admin.person.signed_in()).do("api", target.person, "block")
    app = Person(world.azure, world.service.url, world.azure.new_account(roles=[ROLE]))
    url = f"{world.service.url}/api/admin/users/{admin.person.key}/block"
    assert call("POST", url, headers=bearer(world.azure, app)).status_code == 200  # its first request


def test_unreadable_list_of_administrators_stops_no_block(world: World) -> None:
    admin, person = world.new_admin(), world.new_user()
    world.storage.plant(Fault(kind="status", table="administrators"))
    admin.do("api", person, "block")
    assert not person.is_signed_in()
