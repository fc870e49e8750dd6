"""Users who were deleted or blocked while a session of theirs is open: no token, and no way back by it."""

from collections.abc import Callable

import pytest
from azure.data.tables import TableServiceClient

from tests.support.identity_rows import (
    FOREIGN_IDENTITY,
    change_identity_row,
    delete_identity_row,
    get_identity,
    insert_identity_row,
    list_identity_rows,
)
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_sessions
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import wait_until


def test_deleted_user_does_not_come_back_by_an_open_session(
    azure: LocalAzure, tables: TableServiceClient, settled: Person
) -> None:
    csrf = settled.csrf_headers()
    azure.delete_identity(get_identity(tables, settled))
    delete_identity_row(tables, settled)
    before = set(azure.list_identities())
    assert_problem(settled.token(csrf=csrf), 401, "not_signed_in")
    assert list_identity_rows(tables, settled) == []
    assert set(azure.list_identities()) == before
    # The session has ended with that, on the server too.
    assert list_sessions(tables, settled) == []
    assert_problem(settled.get("/api/me"), 401, "not_signed_in")
    # Signing in anew is a new beginning.
    settled.sign_in()
    assert settled.token().status_code == 200


@pytest.mark.parametrize(
    ("method", "table"), [("POST", "identities"), ("P", "identities")], ids=["first token", "healing"]
)
def test_deletion_in_the_middle_of_a_token_request_wins(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    tables: TableServiceClient,
    signed_in: Person,
    method: str,
    table: str,
) -> None:
    csrf = signed_in.csrf_headers()
    healing = method == "P"
    if healing:
        insert_identity_row(tables, signed_in, acs_user_id=azure.new_unknown_identity())
    before = set(azure.list_identities())

    def delete_user() -> None:
        """What a deletion does: the row, and then the sessions."""
        if healing:
            delete_identity_row(tables, signed_in)
        for row in list_sessions(tables, signed_in):
            tables.get_table_client("sessions").delete_entity(row)

    about = signed_in.account.object_id
    storage_proxy.plant(
        Fault(kind="signal", method=method, table=table, about=about, times=1, action=delete_user)
    )
    assert_problem(signed_in.token(csrf=csrf), 401, "not_signed_in")
    assert list_identity_rows(tables, signed_in) == []
    wait_until(lambda: set(azure.list_identities()) == before, seconds=5)


def test_blocked_user_gets_no_first_token(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person
) -> None:
    insert_identity_row(tables, signed_in, acs_user_id="", blocked=True)
    before = azure.list_identities()
    assert_problem(signed_in.token(), 403, "blocked")
    assert azure.list_identities() == before


def test_blocked_user_is_not_healed(azure: LocalAzure, tables: TableServiceClient, settled: Person) -> None:
    was = get_identity(tables, settled)
    azure.delete_identity(was)
    change_identity_row(tables, settled, Blocked=True)
    before = azure.list_identities()
    assert_problem(settled.token(), 403, "blocked")
    assert azure.list_identities() == before
    assert get_identity(tables, settled) == was


@pytest.mark.parametrize("acs_user_id", ["", FOREIGN_IDENTITY])
def test_blocked_user_cannot_sign_in(
    tables: TableServiceClient, new_person: Callable[..., Person], acs_user_id: str
) -> None:
    person = new_person()
    insert_identity_row(tables, person, acs_user_id=acs_user_id, blocked=True)
    answer = person.sign_in()
    assert answer.status_code == 403
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert not [cookie for cookie in person.http.cookies if cookie.name == "session"]
    assert list_sessions(tables, person) == []
    assert_problem(person.get("/api/me"), 401, "not_signed_in")


def test_unblocked_user_comes_in_again(tables: TableServiceClient, settled: Person) -> None:
    identity = get_identity(tables, settled)
    change_identity_row(tables, settled, Blocked=True)
    assert settled.sign_in().status_code == 403
    change_identity_row(tables, settled, Blocked=False)
    assert settled.sign_in().status_code == 302
    assert settled.token().json()["user"]["communicationUserId"] == identity
