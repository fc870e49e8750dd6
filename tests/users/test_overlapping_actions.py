"""Overlapping actions: the outcome reported for one still holds after the others."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.support.commands import CommandFailed, run_users
from tests.support.concurrency import wait_until
from tests.support.own_azure import World, own_azure
from tests.support.rows import find_entry, list_former, wait_until_indexed
from tests.support.service import Service
from tests.support.storage_proxy import Fault
from tests.support.user_lists import find
from trusted_service.users.administration import SWEEP_DELAYS

GRACE = 2


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with own_azure() as running:
        yield running


@pytest.fixture(scope="module")
def graceful(world: World) -> Iterator[World]:
    """The same world, with a service that replaces a missing identity after two seconds."""
    with Service(world.settings | {"MISSING_IDENTITY_GRACE_SECONDS": str(GRACE)}) as service:
        yield replace(world, service=service)


def test_deletion_marks_the_current_row(world: World) -> None:
    """The row gets another identity between the deletion's read and its mark."""
    person = world.new_user()
    world.azure.delete_identity(world.identity_of(person))
    done, about = list[requests.Response](), person.account.object_id
    request_token = partial(world.token_by_bearer, person)
    world.run_before("PATCH", "identities", about, lambda: done.append(request_token()), also='"Deleting"')
    world.admin.do("api", person, "delete")
    assert world.list_rows(person) == []
    assert done[0].json()["user"]["communicationUserId"] not in world.azure.list_identities()


def test_repair_keeps_a_returned_user(world: World) -> None:
    person = world.new_user()
    world.change_row(person, Deleting=True)
    trail = f"user-{person.account.object_id}"
    world.run_before("P", "audit", trail, lambda: person.signed_in().get_token())
    assert world.repair(person) == []
    assert world.azure.check_token(person.get_token())["valid"] is True
    assert world.find_row(person) is not None


@pytest.mark.parametrize("kind", ["half-blocked", "block-lifted", "blocked twice"])
def test_repair_respects_a_concurrent_unblock(world: World, kind: str) -> None:
    person = world.new_user()
    block, unblock = (partial(world.admin.do, "api", person, action) for action in ("block", "unblock"))
    trail = f"user-{person.account.object_id}"
    if kind == "half-blocked":
        block()
        world.change_row(person, Blocking=True)
        world.run_before("P", "audit", trail, unblock)
    elif kind == "block-lifted":
        block()
        world.run_before("GET", "identities", "identities()", unblock)
    else:  # by overlapping actions, which prove nothing
        block()
        world.run_before("P", "audit", trail, block)
        unblock()
    assert world.repair(person) == []
    assert not world.admin.get_user(person)["blocked"]


def test_block_in_progress_respects_an_unblock(world: World) -> None:
    person, tokens = world.new_user(), list[str]()

    def come_back() -> None:
        world.admin.do("api", person, "unblock")
        tokens.append(person.signed_in().get_token())

    world.run_before("POST", "$batch", person.account.object_id, come_back)
    assert world.admin.act("api", person, "block").json()["blocked"] is False
    time.sleep(SWEEP_DELAYS[0] + 1)
    assert world.azure.check_token(tokens[0])["valid"] is True
    assert person.is_signed_in()


def test_repair_keeps_a_user_imported_during_erasure(world: World, tmp_path: Path) -> None:
    person, identity = world.new_person(), world.azure.new_unknown_identity()
    object_id = person.account.object_id
    file = tmp_path / "old.csv"
    file.write_text(f"objectId,communicationUserId,createdAt\n{object_id},{identity},2020-01-01T00:00:00Z\n")
    world.run_before("P", "audit", f"user-{object_id}", partial(world.admin.act, "api", person, "delete"))
    run_users(world.service.env, "import", str(file))
    assert world.repair(person) == []
    assert world.identity_of(person) == identity


@pytest.mark.parametrize("trouble", ["rename", "storage"])
def test_success_clears_the_missing_identity_record(graceful: World, trouble: str) -> None:
    """The record is cleared even if the row changes before that write, or that write fails."""
    world, person = graceful, graceful.new_user()
    identity, object_id = world.identity_of(person), person.account.object_id

    def rename() -> None:
        world.rename(person, "Renamed Person")
        person.in_new_browser()
        wait_until(lambda: world.list_rows(person)[0]["Name"] == "Renamed Person")

    world.lose_identity(identity)
    assert world.token_by_bearer(person).status_code == 503
    if trouble == "rename":
        world.run_before("PATCH", "identities", object_id, rename, also="MissingSince")
    else:
        fault = Fault(kind="status", method="PATCH", table="identities", about=object_id, also="MissingSince")
        world.storage.plant(fault)
        assert world.token_by_bearer(person).status_code == 503
        world.storage.clear()
    assert world.token_by_bearer(person).status_code == 200
    time.sleep(GRACE + 0.5)
    world.lose_identity(identity)
    assert world.token_by_bearer(person).status_code == 503
    assert world.identity_of(person) == identity


def test_issued_identity_is_not_discarded_after_restore(world: World) -> None:
    person = world.new_user()
    first, object_id = world.identity_of(person), person.account.object_id
    world.lose_identity(first)
    hang = Fault(kind="hang-after-commit", method="PATCH", table="identities", about=object_id, times=1)
    world.storage.plant(replace(hang, also="SwitchedAt"))
    world.storage.plant(Fault(kind="status", method="GET", table="identities", about=object_id, skip=1))
    assert world.token_by_bearer(person).status_code == 503
    world.clear_faults()
    second = world.identity_of(person)
    assert second != first
    assert world.token_by_bearer(person).status_code == 200
    run_users(world.service.env, "restore", person.key, first)
    time.sleep(8)
    assert second in world.azure.list_identities()
    entry = find_entry(world.tables, second)
    assert entry is not None
    assert entry["Reason"] == "replaced"


def test_late_index_update_keeps_end_of_identity(world: World) -> None:
    """The former identity is restored right before an index update copies the ledger entry of the new one."""
    person = world.new_user()
    first, (tenant_id, object_id) = world.identity_of(person), person.key.split("/")
    restore = partial(run_users, world.service.env, "restore", person.key, first)
    world.run_before("P", "ledger", f"user-{object_id}", restore, also='"Reason": ""')
    world.lose_identity(first)
    second = world.token_by_bearer(person).json()["user"]["communicationUserId"]
    wait_until(lambda: world.identity_of(person) == first)
    world.storage.wait_until_quiet()
    assert list_former(world.tables, object_id, tenant_id) == [second]


@pytest.mark.parametrize("channel", ["replacement", "restore"])
def test_erasure_during_switch_leaves_no_owner(world: World, channel: str) -> None:
    person = world.new_user()
    first, (tenant_id, object_id) = world.identity_of(person), person.key.split("/")
    world.azure.delete_identity(first)
    if channel == "restore":
        assert world.token_by_bearer(person).status_code == 200
        wait_until(lambda: list_former(world.tables, object_id, tenant_id) != [])
    delete = partial(world.admin.do, "api", person, "delete")
    world.run_before("P", "ledger", f"user-{object_id}", delete, also=first.lower())
    if channel == "restore":
        with pytest.raises(CommandFailed, match="not a former identity"):
            run_users(world.service.env, "restore", person.key, first)
    else:
        assert world.token_by_bearer(person).status_code == 401
    wait_until(lambda: list_former(world.tables, object_id, tenant_id) == [])
    rows = world.tables.get_table_client("ledger").list_entities()
    assert [row for row in rows if object_id in str(dict(row))] == []


def test_deletion_during_block_is_no_error(world: World) -> None:
    """The ledger entry is erased right before the block's index update records it."""
    person = world.new_user()
    identity = world.identity_of(person)
    delete = partial(world.admin.do, "api", person, "delete")
    world.run_before("POST", "ledger", identity.lower(), delete)
    world.admin.do("api", person, "block")
    wait_until(lambda: '"ObjectId": ""' in json.dumps(find_entry(world.tables, identity), default=str))
    world.storage.wait_until_quiet()
    lines = [line for line in world.service.log().splitlines() if person.key in line]
    assert not [line for line in lines if "identity_taken" in line]


def test_returned_user_is_found(world: World) -> None:
    """A returned user is found even if a stale index update deletes index rows once more."""
    word = f"Zyx{uuid.uuid4().hex[:8]}"
    person = world.new_person(name=f"{word} Person")
    object_id = person.account.object_id

    def come_back() -> None:
        assert world.token_by_bearer(person).status_code == 200
        wait_until_indexed(world.tables, object_id)

    def delete() -> None:
        world.admin.do("api", person, "delete")
        world.run_before("POST", "$batch", object_id, come_back, also="DELETE")

    world.run_before("PATCH", "identities", object_id, delete, also="IndexKeys")
    assert world.token_by_bearer(person).status_code == 200
    world.storage.wait_until_quiet()
    time.sleep(2)
    world.storage.wait_until_quiet()
    assert find(world.admin, q=word) == [object_id]
