"""Storage with missing tables, or with tables restored from an older copy."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import requests
from azure.data.tables import TableEntity

from tests.support.commands import repair
from tests.support.own_azure import World, own_azure
from tests.support.problems import assert_problem
from tests.support.rows import delete_identity_row
from tests.support.seed import YEARS, plant_events
from trusted_service.models import UserId

TABLES = ("identities", "sessions", "audit", "userindex", "ledger", "jobs", "usage", "administrators")
LISTS = {"userindex": "/api/admin/users", "audit": "/admin/audit", "jobs": "/admin/jobs"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """No instance may create tables: no background task brings back one that a test has deleted."""
    with own_azure({"TABLE_STORAGE_CREATE_TABLES": "false"}) as running:
        for name in TABLES:
            running.tables.create_table_if_not_exists(name)
        yield running


@contextmanager
def without_table(world: World, name: str) -> Iterator[None]:
    world.storage.wait_until_quiet()
    rows = list(world.tables.get_table_client(name).list_entities())
    world.tables.delete_table(name)
    try:
        yield
    finally:
        world.tables.create_table_if_not_exists(name)
        restore_rows(world, name, rows)


def restore_rows(world: World, name: str, rows: list[TableEntity]) -> None:
    for row in rows:
        world.tables.get_table_client(name).upsert_entity(row)


@pytest.mark.parametrize("name", TABLES)
def test_missing_table_is_not_treated_as_empty(world: World, name: str) -> None:
    person, newcomer = world.new_user(), world.new_person()
    before, identity = world.azure.list_identities(), world.identity_of(person)
    with without_table(world, name):
        if name == "sessions":
            response = person.token(csrf={"X-CSRFToken": "any"})
            assert_problem(response, 503, "upstream_unavailable")
        if name == "identities":
            for user in (person, newcomer):
                response = world.token_by_bearer(user)
                assert_problem(response, 503, "upstream_unavailable")
            assert newcomer.finish_sign_in(newcomer.start_sign_in()).status_code == 503
        if name in LISTS:
            assert world.admin.person.get(LISTS[name]).status_code == 503
        assert name not in {table.name for table in world.tables.list_tables()}
    assert set(before) <= set(world.azure.list_identities())
    response = world.token_by_bearer(person)
    assert response.json()["user"]["communicationUserId"] == identity


@pytest.mark.parametrize("name", ["identities", "ledger"])
def test_readiness_fails_without_a_table(world: World, name: str) -> None:
    with without_table(world, name), world.new_instance({}) as service:
        response = requests.get(f"{service.url}/readyz", timeout=30)
    assert response.status_code == 503
    assert response.json()["tableStorage"] == "failing"


def test_block_lifted_by_older_copy_is_restored(world: World) -> None:
    person, newcomer = world.new_user(), world.new_person()
    world.admin.do("api", newcomer, "block")
    delete_identity_row(world.tables, newcomer)
    assert world.repair(newcomer) == ["block-lifted"]
    assert newcomer.sign_in().status_code == 403
    copies = world.list_rows(person)
    world.admin.do("page", person, "block", reason="they left")
    restore_rows(world, "identities", copies)
    assert world.token_by_bearer(person).status_code == 200
    for _ in range(2):
        assert world.repair(person, dry_run=True) == ["block-lifted"]
    assert world.token_by_bearer(person).status_code == 200, "a dry run changes nothing"
    assert world.repair(person) == ["block-lifted"]
    assert_problem(world.token_by_bearer(person), 403, "blocked")
    assert [row["BlockReason"] for row in world.list_rows(person)] == ["they left"]
    assert world.repair(person, dry_run=True) == []


def test_erased_user_of_older_copy_is_erased_again(world: World) -> None:
    person = world.new_user()
    world.storage.wait_until_quiet()  # so that the trail has the first token before the deletion
    copies = world.list_rows(person)
    world.admin.do("api", person, "delete")
    restore_rows(world, "identities", copies)
    assert world.repair(person, dry_run=True) == ["erased-user-back"]
    assert world.find_row(person) is not None
    assert world.repair(person) == ["erased-user-back"]
    assert world.find_row(person) is None
    assert world.repair(person, dry_run=True) == []


def test_rows_that_older_copy_lacks_are_restored(world: World) -> None:
    person, blocked, erased = world.new_user(), world.new_user(), world.new_user()
    identities = [world.identity_of(user) for user in (person, blocked)]
    world.admin.do("api", blocked, "block")
    world.admin.do("api", erased, "delete")
    for user in (person, blocked):
        delete_identity_row(world.tables, user)
    findings = repair(world.service.env)
    for user, expected in ((person, ["no-row"]), (blocked, ["no-row", "block-lifted"]), (erased, [])):
        assert [finding["kind"] for finding in findings if finding["user"] == user.key] == expected
    assert [world.identity_of(user) for user in (person, blocked)] == identities
    assert_problem(world.token_by_bearer(blocked), 403, "blocked")
    response = world.token_by_bearer(person)
    assert response.json()["user"]["communicationUserId"] == identities[0]
    assert world.repair(person) == world.repair(blocked) == []


def test_repair_leaves_deliberate_changes_alone(world: World) -> None:
    unblocked, returned, blocked_again = world.new_user(), world.new_user(), world.new_user()
    world.admin.do("api", unblocked, "block")
    world.admin.do("api", unblocked, "unblock")
    world.admin.do("api", returned, "delete")
    assert returned.signed_in().token().status_code == 200
    world.admin.do("api", blocked_again, "block")
    world.admin.do("api", blocked_again, "delete")  # the block stays
    purged = UserId(
        str(uuid.uuid4()), str(uuid.uuid4())
    )  # the purge has already deleted the end of the block
    for outcome, age in (("started", YEARS), ("done", YEARS - timedelta(seconds=1))):
        plant_events(world.azure.env, 1, age, purged, outcome=outcome)
    findings = {finding["user"] for finding in repair(world.service.env, dry_run=True)}
    assert not findings & {unblocked.key, returned.key, blocked_again.key, str(purged)}
