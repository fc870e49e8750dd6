"""Two things done to one user at once: whoever shuts out wins, and nothing is left half done."""

from collections.abc import Callable
from functools import partial

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.desk import Desk, assert_signed_out, bearer, call, finish_sign_in_at
from tests.support.identity_rows import get_identity, list_identity_rows
from tests.support.index_rows import list_kinds, wait_until_forgotten, wait_until_indexed
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import alongside, run_together, wait_until
from tests.support.user_lists import find

Action = Callable[[], object]


@pytest.fixture
def before_call(storage_proxy: StorageProxy) -> Callable[..., Fault]:
    """Let something happen right before a call to the storage that is about the person."""

    def plant(method: str, table: str, about: str, action: Action, skip: int = 0) -> Fault:
        fault = Fault(
            kind="signal", method=method, table=table, about=about, skip=skip, times=1, action=action
        )
        storage_proxy.plant(fault)
        return fault

    return plant


def partition_of(tables: TableServiceClient, person: Person) -> str:
    """The key under which the person's session stands."""
    (row,) = list_sessions(tables, person)
    return str(row["PartitionKey"])


@pytest.mark.parametrize(
    ("method", "table", "skip"),
    [("GET", "identities", 0), ("POST", "identities", 0), ("GET", "sessions", 1)],
    ids=["before the row is read", "before the row is written", "before the last look at the session"],
)
def test_deletion_during_a_first_token_leaves_nothing(
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    signed_in: Person,
    before_call: Callable[..., Fault],
    method: str,
    table: str,
    skip: int,
) -> None:
    csrf, before = signed_in.csrf_headers(), set(azure.list_identities())
    about = signed_in.account.object_id if table == "identities" else partition_of(tables, signed_in)
    fault = before_call(method, table, about, partial(desk.do, "api", signed_in, "delete"), skip)
    answer = signed_in.token(csrf=csrf)
    assert fault.times == 0
    assert_problem(answer, 401, "not_signed_in")
    assert list_identity_rows(tables, signed_in) == list_sessions(tables, signed_in) == []
    wait_until(lambda: set(azure.list_identities()) == before)
    wait_until_forgotten(tables, signed_in.account.object_id)


def test_deletion_while_communication_services_creates_leaves_nothing(
    azure: LocalAzure, tables: TableServiceClient, desk: Desk, signed_in: Person
) -> None:
    csrf, before = signed_in.csrf_headers(), set(azure.list_identities())
    azure.plant_fault("acs", "create", "delay", seconds=1)
    token = alongside(partial(signed_in.token, csrf=csrf), lambda: delete_when_held(azure, desk, signed_in))
    assert_problem(token, 401, "not_signed_in")
    assert list_identity_rows(tables, signed_in) == []
    wait_until(lambda: set(azure.list_identities()) == before)


def test_deletion_while_a_token_is_issued_does_not_bring_the_user_back(
    azure: LocalAzure, tables: TableServiceClient, desk: Desk, settled: Person
) -> None:
    csrf, identity = settled.csrf_headers(), get_identity(tables, settled)
    azure.plant_fault("acs", "issue", "delay", seconds=1)
    token = alongside(partial(settled.token, csrf=csrf), lambda: delete_when_held(azure, desk, settled))
    assert_problem(token, 401, "not_signed_in")
    assert list_identity_rows(tables, settled) == []
    assert identity not in azure.list_identities()


def delete_when_held(azure: LocalAzure, desk: Desk, person: Person) -> requests.Response:
    wait_until(lambda: not azure.list_faults())
    return desk.do("api", person, "delete")


@pytest.mark.parametrize(("method", "table"), [("POST", "sessions"), ("GET", "identities")])
def test_sign_in_that_races_a_block_loses(
    tables: TableServiceClient,
    desk: Desk,
    person: Person,
    other_service: Service,
    before_call: Callable[..., Fault],
    method: str,
    table: str,
) -> None:
    callback = person.start_sign_in().replace(person.url, other_service.url)
    about = person.account.object_id
    fault = before_call(method, table, about, partial(desk.do, "api", person, "block"))
    answer = person.finish_sign_in(callback)
    assert fault.times == 0
    assert_error_page(answer, 403)
    assert list_sessions(tables, person) == []


def test_sign_in_that_finished_before_a_block_is_ended(
    tables: TableServiceClient, desk: Desk, person: Person, other_service: Service
) -> None:
    answers = run_together(
        [partial(finish_sign_in_at, person, other_service.url), partial(desk.do, "api", person, "block")]
    )
    assert answers[0].status_code in (302, 403)
    assert_signed_out(person, other_service.url)
    assert list_sessions(tables, person) == []


def test_first_token_that_races_a_block_leaves_no_identity(
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    signed_in: Person,
    before_call: Callable[..., Fault],
) -> None:
    csrf, before = signed_in.csrf_headers(), set(azure.list_identities())
    block = partial(desk.do, "api", signed_in, "block")
    before_call("POST", "identities", signed_in.account.object_id, block)
    answer = signed_in.token(csrf=csrf)
    assert answer.status_code in (401, 403)
    wait_until(lambda: set(azure.list_identities()) == before)
    (row,) = list_identity_rows(tables, signed_in)
    assert (row["AcsUserId"], row["Blocked"]) == ("", True)


def test_block_of_somebody_whose_first_token_is_faster_revokes_it(
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    person: Person,
    before_call: Callable[..., Fault],
) -> None:
    presented, tokens = bearer(azure, person), list[str]()  # a session would have ended by then

    def be_faster() -> None:
        answer = call("POST", f"{person.url}/api/token", headers=presented)
        tokens.append(answer.json()["token"])

    before_call("POST", "identities", person.account.object_id, be_faster)
    desk.do("api", person, "block")
    (row,) = list_identity_rows(tables, person)
    assert row["AcsUserId"]
    assert row["Blocked"] is True
    assert azure.check_token(tokens[0])["valid"] is False


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("by_themselves", [False, True])
def test_two_deletions_at_once_both_succeed(
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    before_call: Callable[..., Fault],
    method: str,
    *,
    by_themselves: bool,
) -> None:
    wait_until_indexed(tables, settled.account.object_id)
    identity, presented = get_identity(tables, settled), bearer(azure, settled)
    skip = 1 if by_themselves and method == "GET" else 0  # a bearer's own row is read first
    rival = partial(desk.do, "api", settled, "delete")
    fault = before_call(method, "identities", settled.account.object_id, rival, skip)
    if by_themselves:
        answer = call("DELETE", f"{settled.url}/api/me", headers=presented)
    else:
        answer = desk.act("api", settled, "delete")
    assert fault.times == 0
    assert answer.status_code == 204, answer.text
    assert list_identity_rows(tables, settled) == []
    assert identity not in azure.list_identities()


def test_block_during_a_deletion_stays(
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    before_call: Callable[..., Fault],
) -> None:
    identity = get_identity(tables, settled)
    before_call("DELETE", "identities", settled.account.object_id, partial(desk.do, "api", settled, "block"))
    desk.do("api", settled, "delete")
    (row,) = list_identity_rows(tables, settled)
    assert (row["AcsUserId"], row["Blocked"]) == ("", True)
    assert identity not in azure.list_identities()


def test_deletion_during_an_unblock_leaves_no_row(
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    before_call: Callable[..., Fault],
) -> None:
    desk.do("api", settled, "block")
    identity = get_identity(tables, settled)
    before_call("PATCH", "identities", settled.account.object_id, partial(desk.do, "api", settled, "delete"))
    desk.do("api", settled, "unblock")
    assert list_identity_rows(tables, settled) == []
    assert identity not in azure.list_identities()


def test_block_during_an_unblock_of_the_same_user_is_not_lost(
    tables: TableServiceClient, desk: Desk, settled: Person, before_call: Callable[..., Fault]
) -> None:
    desk.do("api", settled, "block")
    before_call(
        *("PATCH", "identities", settled.account.object_id),
        partial(desk.do, "page", settled, "block", reason="on second thoughts"),
    )
    desk.do("api", settled, "unblock")
    # Whichever came last: row and index agree.
    blocked = desk.get_user(settled)["blocked"]
    status = "blocked" if blocked else "active"
    assert find(desk, q=settled.account.username, status=status) == [settled.account.object_id]
    lists = {"n", "t", "bn", "bt"} if blocked else {"n", "t"}
    wait_until(lambda: list_kinds(tables, settled.account.object_id) == lists)


def test_user_who_comes_again_during_their_deletion_keeps_what_is_new(
    azure: LocalAzure,
    tables: TableServiceClient,
    desk: Desk,
    settled: Person,
    before_call: Callable[..., Fault],
) -> None:
    was, answers = get_identity(tables, settled), list[requests.Response]()

    def come_again() -> None:
        assert settled.sign_in().status_code == 302
        answers.append(settled.token())

    before_call("DELETE", "identities", settled.account.object_id, come_again)
    desk.do("api", settled, "delete")
    identity = answers[0].json()["user"]["communicationUserId"]
    assert get_identity(tables, settled) == identity != was
    assert azure.check_token(answers[0].json()["token"])["valid"] is True
    assert was not in azure.list_identities()
    assert settled.token().json()["user"]["communicationUserId"] == identity
