"""The first token of a user makes their one identity, however many ask for it at once."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from azure.data.tables import TableServiceClient

from tests.support.identity_rows import (
    change_identity_row,
    find_identity_row,
    identity_key,
    insert_identity_row,
    list_mentions,
)
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import age_session, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy
from tests.support.together import run_together, wait_until

AT_ONCE = 50


def test_fifty_first_tokens_at_once_over_two_instances_leave_one_identity(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person, other_service: Service
) -> None:
    csrf = signed_in.csrf_headers()
    # A browser for each request: they share the cookie, not the connection.
    browsers = [signed_in.at(other_service.url if number % 2 else signed_in.url) for number in range(AT_ONCE)]
    before = set(azure.list_identities())
    answers = run_together([partial(browser.token, csrf=csrf) for browser in browsers])
    assert [answer.status_code for answer in answers] == [200] * AT_ONCE
    (identity,) = set(azure.list_identities()) - before
    assert {answer.json()["user"]["communicationUserId"] for answer in answers} == {identity}
    for answer in answers:
        check = azure.check_token(answer.json()["token"])
        assert (check["valid"], check["identity"]) == (True, identity)
    (row,) = list_mentions(tables, signed_in)
    assert row["AcsUserId"] == identity


def test_first_tokens_of_two_sessions_at_once_leave_one_identity(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person, other_service: Service
) -> None:
    elsewhere = Person(azure, signed_in.url, signed_in.account)
    elsewhere.sign_in()
    browsers = [signed_in, elsewhere.at(other_service.url)]
    actions = [partial(browser.token, csrf=browser.csrf_headers()) for browser in browsers]
    before = set(azure.list_identities())
    first, second = run_together(actions)
    (identity,) = set(azure.list_identities()) - before
    assert first.json()["user"] == second.json()["user"] == {"communicationUserId": identity}
    assert len(list_mentions(tables, signed_in)) == 1


def test_people_in_different_tenants_with_one_object_id_are_two_users(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person
) -> None:
    foreign = azure.get_account("guest@fabrikam.example").tenant_id
    namesake = Person(azure, signed_in.url, replace(signed_in.account, tenant_id=foreign))
    insert_identity_row(tables, namesake, acs_user_id="8:acs:of-somebody-else", blocked=True)
    answer = signed_in.token()
    assert answer.status_code == 200
    row = find_identity_row(tables, signed_in)
    assert row is not None
    assert row["AcsUserId"] == answer.json()["user"]["communicationUserId"]


def test_first_token_writes_the_row_that_the_contract_describes(
    tables: TableServiceClient, new_person: Callable[..., Person]
) -> None:
    person = new_person(name="Zoë O'Hara <b>")
    person.sign_in()
    assert list_mentions(tables, person) == []
    before = datetime.now(UTC)
    identity = person.token().json()["user"]["communicationUserId"]
    after = datetime.now(UTC)
    (row,) = list_mentions(tables, person)
    assert (row["PartitionKey"], row["RowKey"]) == identity_key(person)
    assert row["AcsUserId"] == identity
    assert row["Name"] == "Zoë O'Hara <b>"
    assert row["Username"] == person.account.username
    assert row["Blocked"] is False
    second = timedelta(seconds=1)
    assert before - second <= row["CreatedAt"] <= after + second
    assert before - second <= row["LastTokenAt"] <= after + second


def test_row_keys_are_in_lower_case_whatever_entra_id_says(
    tables: TableServiceClient, new_person: Callable[..., Person]
) -> None:
    object_id = str(uuid.uuid4())
    person = new_person(objectId=object_id.upper())
    person.sign_in()
    assert person.token().status_code == 200
    (row,) = list_mentions(tables, person)
    assert row["PartitionKey"] == object_id
    assert row["RowKey"] == person.account.tenant_id.lower()


def test_session_carries_the_identity_after_the_first_token(
    azure: LocalAzure, storage_proxy: StorageProxy, tables: TableServiceClient, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    identity = signed_in.token(csrf=csrf).json()["user"]["communicationUserId"]
    wait_until(lambda: [row.get("AcsUserId") for row in list_sessions(tables, signed_in)] == [identity])
    answer = signed_in.token(csrf=csrf)
    assert answer.json()["user"]["communicationUserId"] == identity
    assert [(call.method, call.table) for call in storage_proxy.calls_for(answer)] == [("GET", "sessions")]
    assert azure.calls_for(answer) == ["issue"]


def test_tokens_within_minutes_write_nothing_more(
    storage_proxy: StorageProxy, tables: TableServiceClient, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    signed_in.token(csrf=csrf)
    wait_until(lambda: all(row.get("AcsUserId") for row in list_sessions(tables, signed_in)))
    answers = [signed_in.token(csrf=csrf) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    storage_proxy.wait_until_quiet()
    assert {call.method for answer in answers for call in storage_proxy.calls_for(answer)} == {"GET"}


def test_token_after_some_minutes_is_noted_once(
    storage_proxy: StorageProxy, tables: TableServiceClient, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    signed_in.token(csrf=csrf)
    wait_until(lambda: all(row.get("AcsUserId") for row in list_sessions(tables, signed_in)))
    storage_proxy.wait_until_quiet()
    past = datetime.now(UTC) - timedelta(minutes=30)
    change_identity_row(tables, signed_in, LastTokenAt=past)
    age_session(tables, signed_in, "TokenNotedAt", timedelta(minutes=30))

    def noted() -> bool:
        row = find_identity_row(tables, signed_in)
        return row is not None and row["LastTokenAt"] > past + timedelta(minutes=29)

    before = find_identity_row(tables, signed_in)
    assert signed_in.token(csrf=csrf).status_code == 200
    wait_until(noted)
    after = find_identity_row(tables, signed_in)
    assert before is not None
    assert after is not None
    assert after | {"LastTokenAt": None} == before | {"LastTokenAt": None}
    answer = signed_in.token(csrf=csrf)
    assert answer.status_code == 200
    storage_proxy.wait_until_quiet()
    assert {call.method for call in storage_proxy.calls_for(answer)} == {"GET"}
