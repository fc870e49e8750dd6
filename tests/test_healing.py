"""A mapping that does not hold any more: replaced once, and never against a deletion or a block."""

from functools import partial
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from tests.support.identity_rows import (
    FOREIGN_IDENTITY,
    find_identity_row,
    get_identity,
    insert_identity_row,
)
from tests.support.local_azure import LocalAzure
from tests.support.log import read_events
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import run_together, wait_until

AT_ONCE = 10


def assert_healed(
    azure: LocalAzure, tables: TableServiceClient, person: Person, answer: Any, was: str
) -> str:
    """Check that the answer holds a good token for a new identity that the row names; return that."""
    assert answer.status_code == 200
    identity = get_identity(tables, person)
    assert identity != was
    assert answer.json()["user"]["communicationUserId"] == identity
    check = azure.check_token(answer.json()["token"])
    assert (check["valid"], check["identity"]) == (True, identity)
    return identity


def test_identity_deleted_elsewhere_is_replaced(
    azure: LocalAzure, tables: TableServiceClient, service: Service, settled: Person
) -> None:
    was = get_identity(tables, settled)
    before = find_identity_row(tables, settled)
    azure.delete_identity(was)
    answer = settled.token()
    now = assert_healed(azure, tables, settled, answer, was)
    assert now in azure.list_identities()
    after = find_identity_row(tables, settled)
    assert before is not None
    assert after is not None
    assert (after["CreatedAt"], after["Name"], after["Blocked"]) == (
        before["CreatedAt"],
        before["Name"],
        before["Blocked"],
    )
    assert "identity_healed" in [event["event"] for event in read_events(service, answer)]
    assert settled.token().json()["user"]["communicationUserId"] == now


def test_identity_of_another_resource_is_replaced(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person
) -> None:
    insert_identity_row(tables, signed_in, acs_user_id=FOREIGN_IDENTITY)
    assert_healed(azure, tables, signed_in, signed_in.token(), FOREIGN_IDENTITY)


def test_row_without_an_identity_gets_one(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person
) -> None:
    insert_identity_row(tables, signed_in, acs_user_id="")
    assert_healed(azure, tables, signed_in, signed_in.token(), "")


@pytest.mark.parametrize(
    "refusal",
    [{"status": 404, "code": "NotFound"}, {"status": 404}, {"status": 401, "code": "IdentityNotOwned"}],
    ids=str,
)
def test_every_word_for_gone_heals(
    azure: LocalAzure, tables: TableServiceClient, settled: Person, refusal: dict[str, object]
) -> None:
    was = get_identity(tables, settled)
    azure.plant_fault("acs", "issue", "status", **refusal)
    assert_healed(azure, tables, settled, settled.token(), was)
    wait_until(lambda: was not in azure.list_identities(), seconds=5)


@pytest.mark.parametrize(
    "refusal", [{"status": 401, "code": "Denied"}, {"status": 401}, {"status": 403}], ids=str
)
def test_being_refused_heals_nothing(
    azure: LocalAzure, tables: TableServiceClient, settled: Person, refusal: dict[str, object]
) -> None:
    was = get_identity(tables, settled)
    azure.plant_fault("acs", "issue", "status", **refusal)
    assert_problem(settled.token(), 503, "upstream_unavailable")
    assert get_identity(tables, settled) == was
    assert was in azure.list_identities()


def test_ten_at_once_heal_once(
    azure: LocalAzure, tables: TableServiceClient, settled: Person, other_service: Service
) -> None:
    was = get_identity(tables, settled)
    csrf = settled.csrf_headers()
    azure.delete_identity(was)
    before = set(azure.list_identities())
    browsers = [settled.at(other_service.url if number % 2 else settled.url) for number in range(AT_ONCE)]
    answers = run_together([partial(browser.token, csrf=csrf) for browser in browsers])
    for answer in answers:
        assert_healed(azure, tables, settled, answer, was)
    wait_until(lambda: set(azure.list_identities()) - before == {get_identity(tables, settled)}, seconds=5)


def test_healing_that_loses_to_another_writer_takes_their_identity(
    azure: LocalAzure, storage_proxy: StorageProxy, tables: TableServiceClient, settled: Person
) -> None:
    csrf = settled.csrf_headers()
    storage_proxy.wait_until_quiet()  # what the first token left to do writes the row too
    azure.delete_identity(get_identity(tables, settled))
    before = set(azure.list_identities())
    rival = settled.at(settled.url)
    won: list[str] = []

    def overtake() -> None:
        won.append(rival.token(csrf=csrf).json()["user"]["communicationUserId"])

    # Right before the row is written, somebody else heals it.
    about = settled.account.object_id
    storage_proxy.plant(
        Fault(kind="signal", method="P", table="identities", about=about, times=1, action=overtake)
    )
    answer = settled.token(csrf=csrf)
    assert answer.status_code == 200
    assert won == [answer.json()["user"]["communicationUserId"]] == [get_identity(tables, settled)]
    wait_until(lambda: set(azure.list_identities()) - before == set(won), seconds=5)
