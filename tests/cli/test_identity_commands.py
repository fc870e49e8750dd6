"""`users restore` and `users identity-map`: former identities can be restored, and all are listed."""

import csv
import io
import json
import uuid
from collections.abc import Callable

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.admin_client import Admin, bearer, post_token
from tests.support.commands import run_command
from tests.support.concurrency import wait_until
from tests.support.local_azure import LocalAzure
from tests.support.pages import read_page
from tests.support.person import Person
from tests.support.rows import (
    allow_former_resource,
    change_identity_row,
    find_entry,
    get_identity,
    give_former_identity,
    list_former,
    list_sessions,
)
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.user_lists import find

Run = Callable[..., str]
Replaced = tuple[Person, str, str]
"""A user whose identity was replaced although it is alive, its former and its current identity."""


@pytest.fixture
def run(application: Flask) -> Run:
    """Run a `users` command, check its exit code and return its output."""

    def do(*arguments: str, exit_code: int = 0) -> str:
        done = run_command(application, "users", *arguments)
        assert done.exit_code == exit_code, done.output
        return done.stdout if exit_code == 0 else done.stderr

    return do


@pytest.fixture
def replaced(azure: LocalAzure, tables: TableServiceClient, mapped_user: Person) -> Replaced:
    """Replace an identity as the service does, but without its brake."""
    was = get_identity(tables, mapped_user)
    wait_until(lambda: find_entry(tables, was) is not None)
    allow_former_resource(tables)
    entry = find_entry(tables, was)
    assert entry is not None
    give_former_identity(tables, mapped_user)
    response = post_token(mapped_user, bearer(azure, mapped_user))
    now = response.json()["user"]["communicationUserId"]
    ledger = tables.get_table_client("ledger")
    former = {**entry, "Until": entry["Since"], "Reason": "replaced"}
    ledger.upsert_entity(former)
    user = f"user-{mapped_user.account.object_id}-{mapped_user.account.tenant_id}"
    ledger.upsert_entity({**former, "PartitionKey": user, "RowKey": was.lower()})
    wait_until(lambda: find_entry(tables, now) is not None)
    return mapped_user, was, now


def test_restored_identity_applies_to_every_session(
    azure: LocalAzure, tables: TableServiceClient, run: Run, replaced: Replaced
) -> None:
    person, was, now = replaced
    other = person.in_new_browser()
    assert other.token().json()["user"]["communicationUserId"] == now
    wait_until(lambda: any(row.get("AcsUserId") == now for row in list_sessions(tables, person)))
    assert was in run("restore", person.key, was)
    for response in (other.token(), person.token(), post_token(person, bearer(azure, person))):
        assert response.json()["user"]["communicationUserId"] == was
        assert azure.check_token(response.json()["token"])["valid"] is True
    assert now in list_former(tables, person.account.object_id, person.account.tenant_id)
    restored = find_entry(tables, was)
    assert restored is not None
    assert (restored["Reason"], restored.get("Until")) == ("", None)
    for _ in range(2):  # the second one changes nothing
        run("restore", person.key, now)
    assert other.token().json()["user"]["communicationUserId"] == now


def test_overlapping_request_caches_no_former_identity(
    storage_proxy: StorageProxy, tables: TableServiceClient, run: Run, replaced: Replaced
) -> None:
    """The restore happens right before a session caches the previous identity."""
    person, was, now = replaced
    other = person.in_new_browser()
    fault = Fault(kind="signal", method="PATCH", table="sessions", also=f'"AcsUserId": "{now}"', times=1)
    fault.action = lambda: run("restore", person.key, was)
    storage_proxy.plant(fault)
    assert other.token().json()["user"]["communicationUserId"] == now
    wait_until(lambda: not fault.times)
    storage_proxy.wait_until_quiet()
    assert get_identity(tables, person) == was
    assert other.token().json()["user"]["communicationUserId"] == was
    assert other.me()["communicationUserId"] == was


def test_identity_of_another_user_is_refused(
    azure: LocalAzure, tables: TableServiceClient, run: Run, mapped_user: Person, replaced: Replaced
) -> None:
    person, was, now = replaced
    unknown_id = str(uuid.uuid4())
    for user, identity in (
        (mapped_user.key, azure.new_unknown_identity()),
        (f"{person.account.tenant_id}/{unknown_id}", was),
        (person.key, "8:acs:garbage"),
        (person.key, f"8:acs:{uuid.uuid4()}_{uuid.uuid4()}"),
    ):
        assert run("restore", user, identity, exit_code=1).startswith("Error: This is not a former identity")
    assert get_identity(tables, person) == now


def test_restore_retries_when_the_row_changes(
    storage_proxy: StorageProxy, tables: TableServiceClient, run: Run, replaced: Replaced
) -> None:
    person, was, _ = replaced
    fault = Fault(kind="signal", method="PATCH", table="identities", about=person.account.object_id, times=1)
    fault.action = lambda: change_identity_row(tables, person, Name="Renamed", Indexed=False)
    storage_proxy.plant(fault)
    run("restore", person.key, was)
    assert get_identity(tables, person) == was


def test_administrators_see_former_identity(
    tables: TableServiceClient, admin: Admin, replaced: Replaced
) -> None:
    person, was, now = replaced
    assert find(admin, q=was) == find(admin, q=now) == [person.account.object_id]
    for q, is_former in ((was, True), (now, False)):
        page = admin.person.get("/admin/users", params={"q": q}).text
        assert ("Former identity" in page) is is_former
    detail = read_page(admin.person, f"/admin/users/{person.key}")
    rows = [row.get_text(" ", strip=True) for row in detail.select("tbody tr")]
    assert any(was in row and "Replaced" in row for row in rows)
    exported = person.get("/api/me/export").json()["identities"]
    assert {one["communicationUserId"]: one["reason"] for one in exported}[was] == "replaced"
    current = {"communicationUserId": now, "until": None, "reason": None}
    assert exported[0] == current | {"since": exported[0]["since"]}


def get_current(person: Person) -> str:
    return str(person.token().json()["user"]["communicationUserId"])


def read_map(text: str) -> dict[str, list[str]]:
    """Check the header against the contract; return the rows by identity."""
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["acs_user_id", "entra_object_id", "target_tenant_id", "status", "decision_owner"]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1:] for row in rows}


def test_map_lists_every_identity_ever_issued(
    storage_proxy: StorageProxy,
    admin: Admin,
    tables: TableServiceClient,
    run: Run,
    new_person: Callable[..., Person],
    replaced: Replaced,
) -> None:
    person, was, now = replaced
    gone = new_person().signed_in()
    erased = get_current(gone)
    wait_until(lambda: find_entry(tables, erased) is not None)
    admin.do("api", gone, "delete")
    # A process that dies right after writing the mapping row leaves no ledger entry.
    tables.get_table_client("ledger").delete_entity(now.lower(), "identity")
    newcomer = new_person().signed_in()
    fault = Fault(kind="signal", method="GET", table="ledger", about="ledger()", times=1)
    fault.action = lambda: wait_until(lambda: find_entry(tables, get_current(newcomer)) is not None)
    storage_proxy.plant(fault)
    mapped = read_map(run("identity-map", "--decision-owner", "The, owner"))
    assert mapped[get_current(newcomer)][2] == "mapped", "though they came after the rows were read"
    owner = [person.account.object_id, person.account.tenant_id]
    assert mapped[now] == [*owner, "mapped", "The, owner"]
    assert mapped[was] == [*owner, "archive-only", "The, owner"]
    assert mapped[erased] == ["", "", "archive-only", "The, owner"]
    assert {row[2] for row in mapped.values()} == {"mapped", "archive-only"}
    assert {one["acs_user_id"] for one in json.loads(run("identity-map", "--json"))} == set(mapped)


def test_erasure_keeps_only_ids(
    azure: LocalAzure, tables: TableServiceClient, admin: Admin, replaced: Replaced
) -> None:
    person, was, now = replaced
    admin.act("api", person, "delete")  # 503, though done: another resource's identity is out of reach
    for identity in (was, now):
        entry = find_entry(tables, identity)
        assert entry is not None
        assert entry["AcsUserId"] == identity
        assert person.account.object_id not in str(entry)
        assert person.account.tenant_id not in str(entry)
        assert identity not in azure.list_identities()
    assert list_former(tables, person.account.object_id, person.account.tenant_id) == []
