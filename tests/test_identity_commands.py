"""`users restore` and `users identity-map`: former identities come back, and none is ever forgotten."""

import csv
import io
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup
from flask import Flask

from tests.support.commands import read_json, run_command
from tests.support.desk import Desk, bearer, call
from tests.support.former_resource import allow_former_resource, give_former_identity
from tests.support.identity_rows import change_identity_row, get_identity
from tests.support.ledger_rows import find_entry, list_former
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import wait_until
from tests.support.user_lists import find

HEADER = ["acs_user_id", "entra_object_id", "target_tenant_id", "status", "decision_owner"]
Run = Callable[..., Any]


@pytest.fixture
def run(application: Flask) -> Run:
    """Run a command on users, which must end with this code; what it prints."""

    def do(*arguments: str, exit_code: int = 0) -> str:
        done = run_command(application, "users", *arguments)
        assert done.exit_code == exit_code, done.output
        return done.stdout if exit_code == 0 else done.stderr

    return do


@pytest.fixture
def replaced(azure: LocalAzure, tables: TableServiceClient, settled: Person) -> tuple[Person, str, str]:
    """Somebody whose identity was replaced although it is alive: they, the former and the current one.

    It happened the way the service does it, but past its brake.
    """
    was = get_identity(tables, settled)
    wait_until(lambda: find_entry(tables, was) is not None)
    allow_former_resource(tables)
    entry = find_entry(tables, was)
    assert entry is not None
    give_former_identity(tables, settled)
    answer = call("POST", f"{settled.url}/api/token", headers=bearer(azure, settled))
    now = answer.json()["user"]["communicationUserId"]
    ledger = tables.get_table_client("ledger")
    former = {**entry, "Until": entry["Since"], "Reason": "replaced"}
    ledger.upsert_entity(former)
    user = f"user-{settled.account.object_id}-{settled.account.tenant_id}"
    ledger.upsert_entity({**former, "PartitionKey": user, "RowKey": was.lower()})
    wait_until(lambda: find_entry(tables, now) is not None)
    return settled, was, now


def test_former_identity_comes_back_for_every_session(
    azure: LocalAzure, tables: TableServiceClient, run: Run, replaced: tuple[Person, str, str]
) -> None:
    person, was, now = replaced
    other = Person(azure, person.url, person.account)
    assert other.sign_in().status_code == 302
    assert other.token().json()["user"]["communicationUserId"] == now
    wait_until(lambda: any(row.get("AcsUserId") == now for row in list_sessions(tables, person)))
    assert was in run("restore", person.key, was)
    for answer in (
        other.token(),
        person.token(),
        call("POST", f"{person.url}/api/token", headers=bearer(azure, person)),
    ):
        assert answer.json()["user"]["communicationUserId"] == was
        assert azure.check_token(answer.json()["token"])["valid"] is True
    assert now in list_former(tables, person.account.object_id, person.account.tenant_id)
    restored = find_entry(tables, was)
    assert restored is not None
    assert (restored["Reason"], restored.get("Until")) == ("", None)
    run("restore", person.key, now)
    assert other.token().json()["user"]["communicationUserId"] == now


def test_request_that_overlaps_with_a_restore_cannot_cache_the_other_identity(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    tables: TableServiceClient,
    run: Run,
    replaced: tuple[Person, str, str],
) -> None:
    """The restore happens right before a session caches the identity that the row named until then."""
    person, was, now = replaced
    other = Person(azure, person.url, person.account)
    assert other.sign_in().status_code == 302
    fault = Fault(
        kind="signal",
        method="PATCH",
        table="sessions",
        also=f'"AcsUserId": "{now}"',
        times=1,
        action=lambda: run("restore", person.key, was),
    )
    storage_proxy.plant(fault)
    assert other.token().json()["user"]["communicationUserId"] == now
    wait_until(lambda: not fault.times)
    storage_proxy.wait_until_quiet()
    assert get_identity(tables, person) == was
    assert other.token().json()["user"]["communicationUserId"] == was
    assert other.me()["communicationUserId"] == was


def test_restore_of_the_current_identity_changes_nothing(
    tables: TableServiceClient, run: Run, settled: Person
) -> None:
    identity = get_identity(tables, settled)
    wait_until(lambda: find_entry(tables, identity) is not None)
    run("restore", settled.key, identity)
    assert settled.token().json()["user"]["communicationUserId"] == identity


def test_identity_of_anybody_else_is_refused(
    azure: LocalAzure,
    tables: TableServiceClient,
    run: Run,
    settled: Person,
    replaced: tuple[Person, str, str],
) -> None:
    person, was, now = replaced
    stranger = str(uuid.uuid4())
    for user, identity in (
        (settled.key, azure.new_unknown_identity()),
        (f"{person.account.tenant_id}/{stranger}", was),
        (person.key, "8:acs:garbage"),
        (person.key, f"8:acs:{uuid.uuid4()}_{uuid.uuid4()}"),
    ):
        assert run("restore", user, identity, exit_code=1).startswith("Error: This is not a former identity")
    assert get_identity(tables, person) == now


def test_restore_loses_to_nobody(
    storage_proxy: StorageProxy, tables: TableServiceClient, run: Run, replaced: tuple[Person, str, str]
) -> None:
    """The row changes between its read and its write: the command starts again."""
    person, was, _ = replaced
    storage_proxy.plant(
        Fault(
            kind="signal",
            method="PATCH",
            table="identities",
            about=person.account.object_id,
            times=1,
            action=lambda: change_identity_row(tables, person, Name="Renamed", Indexed=False),
        )
    )
    run("restore", person.key, was)
    assert get_identity(tables, person) == was


def test_administrators_find_and_see_a_former_identity(
    tables: TableServiceClient, desk: Desk, replaced: tuple[Person, str, str]
) -> None:
    person, was, now = replaced
    assert find(desk, q=was) == find(desk, q=now) == [person.account.object_id]
    page = BeautifulSoup(desk.person.get("/admin/users", params={"q": was}).text, "html.parser")
    assert "Former identity" in page.get_text()
    page = BeautifulSoup(desk.person.get("/admin/users", params={"q": now}).text, "html.parser")
    assert "Former identity" not in page.get_text()
    detail = BeautifulSoup(desk.person.get(f"/admin/users/{person.key}").text, "html.parser")
    rows = [row.get_text(" ", strip=True) for row in detail.select("tbody tr")]
    assert any(was in row and "Replaced" in row for row in rows)
    exported = person.get("/api/me/export").json()["identities"]
    assert {one["communicationUserId"]: one["reason"] for one in exported}[was] == "replaced"
    assert exported[0] == {
        "communicationUserId": now,
        "since": exported[0]["since"],
        "until": None,
        "reason": None,
    }


def read_map(text: str) -> dict[str, list[str]]:
    """The rows by identity, below the header of the contract."""
    header, *rows = csv.reader(io.StringIO(text))
    assert header == HEADER
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1:] for row in rows}


def test_map_has_every_identity_that_was_ever_issued(
    desk: Desk,
    tables: TableServiceClient,
    run: Run,
    new_person: Callable[..., Person],
    replaced: tuple[Person, str, str],
) -> None:
    person, was, now = replaced
    gone = new_person()
    assert gone.sign_in().status_code == 302
    erased = gone.token().json()["user"]["communicationUserId"]
    wait_until(lambda: find_entry(tables, erased) is not None)
    desk.do("api", gone, "delete")
    mapped = read_map(run("identity-map", "--decision-owner", "The, owner"))
    owner = [person.account.object_id, person.account.tenant_id]
    assert mapped[now] == [*owner, "mapped", "The, owner"]
    assert mapped[was] == [*owner, "archive-only", "The, owner"]
    assert mapped[erased] == ["", "", "archive-only", "The, owner"]
    assert {row[2] for row in mapped.values()} == {"mapped", "archive-only"}


def test_map_has_an_identity_whose_ledger_entry_is_missing(
    application: Flask, tables: TableServiceClient, settled: Person
) -> None:
    """A process that dies right after the mapping row leaves that behind."""
    identity = get_identity(tables, settled)
    wait_until(lambda: find_entry(tables, identity) is not None)
    tables.get_table_client("ledger").delete_entity(identity.lower(), "identity")
    found = read_json(run_command(application, "users", "identity-map", "--json"))
    assert [one["status"] for one in found if one["acs_user_id"] == identity] == ["mapped"]


def test_erasure_keeps_nothing_but_the_ids(
    azure: LocalAzure, tables: TableServiceClient, desk: Desk, replaced: tuple[Person, str, str]
) -> None:
    person, was, now = replaced
    desk.act("api", person, "delete")  # an identity of another resource is beyond reach: 503, though done
    for identity in (was, now):
        entry = find_entry(tables, identity)
        assert entry is not None
        assert entry["AcsUserId"] == identity
        assert person.account.object_id not in str(entry)
        assert person.account.tenant_id not in str(entry)
        assert identity not in azure.list_identities()
    assert list_former(tables, person.account.object_id, person.account.tenant_id) == []
