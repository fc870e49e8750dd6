"""A storage that is not what it was: tables are missing, or were restored from an older copy."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.commands import repair
from tests.support.desk import Desk, bearer, call, finish_sign_in_at
from tests.support.identity_rows import find_identity_row, get_identity
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service

TABLES = ("identities", "sessions", "audit", "userindex", "ledger", "jobs", "usage")
KEEP = {"TABLE_STORAGE_CREATE_TABLES": "false"}


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    with own_azure() as running:
        yield running


@pytest.fixture(scope="module")
def clerk(own: OwnAzure) -> Desk:
    return own.new_desk()


@pytest.fixture(scope="module")
def strict(own: OwnAzure) -> Iterator[Service]:
    """The service where the infrastructure makes the tables, which are all there at first."""
    for name in TABLES:
        own.tables.create_table_if_not_exists(name)
    with Service(own.service.env | KEEP | {"PUBLIC_URL": own.service.url}) as service:
        yield service


@pytest.mark.parametrize("name", TABLES)
def test_missing_table_is_no_empty_one(own: OwnAzure, clerk: Desk, strict: Service, name: str) -> None:
    person = own.new_user()
    before, identity = own.azure.list_identities(), get_identity(own.tables, person)
    own.storage.wait_until_quiet()
    rows = list(own.tables.get_table_client(name).list_entities())
    own.tables.delete_table(name)
    try:
        if name == "sessions":
            answer = person.at(strict.url).token(csrf={"X-CSRFToken": "any"})
            assert_problem(answer, 503, "upstream_unavailable")
        if name == "identities":
            for somebody in (person, own.new_person()):
                answer = call("POST", f"{strict.url}/api/token", headers=bearer(own.azure, somebody))
                assert_problem(answer, 503, "upstream_unavailable")
            sign_in = finish_sign_in_at(own.new_person(), strict.url)
            assert sign_in.status_code == 503
        if name in ("userindex", "audit", "jobs"):
            path = {"userindex": "/api/admin/users", "audit": "/admin/audit", "jobs": "/admin/jobs"}[name]
            assert clerk.person.at(strict.url).get(path).status_code == 503
        assert name not in {table.name for table in own.tables.list_tables()}, "nobody made a new one"
    finally:
        own.tables.create_table_if_not_exists(name)
        put_back(own.tables, name, rows)
    assert set(before) <= set(own.azure.list_identities())
    answer = call("POST", f"{strict.url}/api/token", headers=bearer(own.azure, person))
    assert answer.json()["user"]["communicationUserId"] == identity


def put_back(tables: TableServiceClient, name: str, rows: list[Any]) -> None:
    for row in rows:
        tables.get_table_client(name).upsert_entity(row)


@pytest.mark.parametrize("name", ["identities", "ledger"])
def test_readiness_tells_that_a_table_is_missing(own: OwnAzure, name: str) -> None:
    for table in TABLES:
        own.tables.create_table_if_not_exists(table)
    rows = list(own.tables.get_table_client(name).list_entities())
    own.tables.delete_table(name)
    try:
        with Service(own.service.env | KEEP | {"PUBLIC_URL": own.service.url}) as service:
            answer = requests.get(f"{service.url}/readyz", timeout=30)
        assert answer.status_code == 503
        assert answer.json()["tableStorage"] == "failing"
    finally:
        own.tables.create_table_if_not_exists(name)
        put_back(own.tables, name, rows)


def found_for(own: OwnAzure, person: Person, *, dry_run: bool) -> list[str]:
    findings = repair(own.service.env, dry_run=dry_run)
    return [finding["kind"] for finding in findings if finding["user"] == person.key]


def test_block_that_an_older_copy_lifted_is_found_and_set_again(own: OwnAzure, clerk: Desk) -> None:
    person = own.new_user()
    copy = find_identity_row(own.tables, person)
    clerk.do("page", person, "block", reason="they left")
    put_back(own.tables, "identities", [copy])
    headers = bearer(own.azure, person)
    assert call("POST", f"{person.url}/api/token", headers=headers).status_code == 200
    assert found_for(own, person, dry_run=True) == found_for(own, person, dry_run=True) == ["block-lifted"]
    assert call("POST", f"{person.url}/api/token", headers=headers).status_code == 200, "a dry run"
    assert found_for(own, person, dry_run=False) == ["block-lifted"]
    assert_problem(call("POST", f"{person.url}/api/token", headers=headers), 403, "blocked")
    row = find_identity_row(own.tables, person)
    assert row is not None
    assert row["BlockReason"] == "they left"
    assert found_for(own, person, dry_run=True) == []


def test_block_whose_row_is_gone_is_set_again(own: OwnAzure, clerk: Desk) -> None:
    person = own.new_person()
    clerk.do("api", person, "block")
    own.tables.get_table_client("identities").delete_entity(
        person.account.object_id, person.account.tenant_id
    )
    assert found_for(own, person, dry_run=False) == ["block-lifted"]
    assert person.sign_in().status_code == 403


def test_erased_user_whom_an_older_copy_brings_back_is_erased_again(own: OwnAzure, clerk: Desk) -> None:
    person = own.new_user()
    copy = find_identity_row(own.tables, person)
    clerk.do("api", person, "delete")
    put_back(own.tables, "identities", [copy])
    assert found_for(own, person, dry_run=True) == ["erased-user-back"]
    assert find_identity_row(own.tables, person) is not None
    assert found_for(own, person, dry_run=False) == ["erased-user-back"]
    assert find_identity_row(own.tables, person) is None
    assert found_for(own, person, dry_run=True) == []


def test_what_people_did_on_purpose_is_left_alone(own: OwnAzure, clerk: Desk) -> None:
    unblocked, returned, blocked_again = own.new_user(), own.new_user(), own.new_user()
    clerk.do("api", unblocked, "block")
    clerk.do("api", unblocked, "unblock")
    clerk.do("api", returned, "delete")
    assert returned.sign_in().status_code == 302
    assert returned.token().status_code == 200
    clerk.do("api", blocked_again, "block")
    clerk.do("api", blocked_again, "delete")  # the block stays
    findings = {finding["user"] for finding in repair(own.service.env, dry_run=True)}
    assert not findings & {unblocked.key, returned.key, blocked_again.key}
