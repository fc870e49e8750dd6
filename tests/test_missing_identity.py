"""An identity that Communication Services says does not exist: believed late, replaced seldom, never lost."""

import math
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.commands import run_users
from tests.support.desk import bearer, call
from tests.support.identity_rows import get_identity, insert_identity_row
from tests.support.ledger_rows import find_entry
from tests.support.local_azure import LocalAzure
from tests.support.log import read_events
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import run_together, wait_until

GRACE = 1.2
CODE = {"status": 404, "code": "IdentityNotFound"}
"""How Communication Services itself says that an identity does not exist."""


@pytest.fixture
def instance(settings: dict[str, str]) -> Iterator[Service]:
    """A fresh process: it has replaced nobody yet."""
    with Service(settings | {"MISSING_IDENTITY_GRACE_SECONDS": str(math.ceil(GRACE))}) as running:
        yield running


@pytest.fixture
def new_user(
    new_person: Callable[..., Person], tables: TableServiceClient, instance: Service
) -> Callable[[], Person]:
    """Make somebody with an identity that their session has cached."""

    def make() -> Person:
        person = new_person(at=instance)
        assert person.sign_in().status_code == 302
        assert person.token().status_code == 200
        wait_until(lambda: bool(list_sessions(tables, person)[0].get("AcsUserId")))
        return person

    return make


def wait_for_grace() -> None:
    time.sleep(math.ceil(GRACE) + 0.1)


def assert_missing(answer: requests.Response) -> None:
    """Check that the answer asks to come again within the grace period."""
    assert_problem(answer, 503, "upstream_unavailable")
    assert 1 <= int(answer.headers["Retry-After"]) <= math.ceil(GRACE)


def assert_replaced(azure: LocalAzure, tables: TableServiceClient, person: Person, answer: Any) -> str:
    """Check that the answer holds a good token for the identity that the row names; return that."""
    assert answer.status_code == 200, answer.text
    identity = get_identity(tables, person)
    assert answer.json()["user"]["communicationUserId"] == identity
    check = azure.check_token(answer.json()["token"])
    assert (check["valid"], check["identity"]) == (True, identity)
    return identity


@pytest.mark.parametrize("way", ["cookie", "bearer"])
def test_deleted_identity_is_replaced_after_the_grace_period(
    azure: LocalAzure, tables: TableServiceClient, new_user: Callable[[], Person], way: str
) -> None:
    person = new_user()
    was, csrf, headers = get_identity(tables, person), person.csrf_headers(), bearer(azure, person)
    ask = {
        "cookie": partial(person.token, csrf=csrf),
        "bearer": partial(call, "POST", f"{person.url}/api/token", headers=headers),
    }[way]
    azure.delete_identity(was)
    assert_missing(ask())
    assert get_identity(tables, person) == was
    wait_for_grace()
    now = assert_replaced(azure, tables, person, ask())
    assert now != was
    assert_replaced(azure, tables, person, person.token(csrf=csrf))
    assert get_identity(tables, person) == now
    wait_until(lambda: find_entry(tables, now) is not None)
    former = find_entry(tables, was)
    assert former is not None
    assert (former["ObjectId"], former["Reason"]) == (person.account.object_id, "replaced")
    assert former["Since"] < former["Until"]


def test_no_grace_period_replaces_at_once(
    azure: LocalAzure, settings: dict[str, str], tables: TableServiceClient, new_person: Callable[..., Person]
) -> None:
    with Service(settings | {"MISSING_IDENTITY_GRACE_SECONDS": "0"}) as instance:
        person = new_person(at=instance)
        assert person.sign_in().status_code == 302
        was = person.token().json()["user"]["communicationUserId"]
        azure.delete_identity(was)
        assert assert_replaced(azure, tables, person, person.token()) != was


@pytest.mark.parametrize(
    "refusal",
    [
        {"status": 404},
        {"status": 404, "body": "<html><h1>404 Not Found</h1></html>"},
        {"status": 404, "body": {"statusCode": 404, "message": "Resource not found"}},
        {"status": 404, "body": {"error": {"code": "404", "message": "Site not found"}}},
        {"status": 401, "code": "IdentityNotOwned"},
        {"status": 401, "code": "Denied"},
        {"status": 401},
        {"status": 403},
        {"status": 410, "code": "IdentityNotFound"},
    ],
    ids=str,
)
def test_other_refusals_replace_nothing_however_long_they_last(
    azure: LocalAzure,
    tables: TableServiceClient,
    instance: Service,
    new_user: Callable[[], Person],
    refusal: dict[str, object],
) -> None:
    person = new_user()
    was, csrf = get_identity(tables, person), person.csrf_headers()
    azure.plant_fault("acs", "issue", "status", times=None, about=was, **refusal)
    assert_problem(person.token(csrf=csrf), 503, "upstream_unavailable")
    wait_for_grace()
    assert_problem(person.token(csrf=csrf), 503, "upstream_unavailable")
    azure.clear_faults()
    assert assert_replaced(azure, tables, person, person.token(csrf=csrf)) == was


@pytest.mark.parametrize("action", ["revoke", "delete"])
def test_gateway_404_is_no_success_of_an_action(
    azure: LocalAzure, tables: TableServiceClient, new_user: Callable[[], Person], action: str
) -> None:
    person = new_user()
    identity, csrf = get_identity(tables, person), person.csrf_headers()
    path = {"revoke": "/api/me/revoke", "delete": "/api/me"}[action]
    method = {"revoke": "POST", "delete": "DELETE"}[action]
    azure.plant_fault("acs", action, "status", status=404, body="<html>Not Found</html>", about=identity)
    answer = person.http.request(method, person.url + path, headers=csrf, timeout=30)
    assert_problem(answer, 503, "upstream_unavailable")
    assert identity in azure.list_identities()


def test_success_in_between_starts_the_grace_period_anew(
    azure: LocalAzure, tables: TableServiceClient, new_user: Callable[[], Person]
) -> None:
    person = new_user()
    was, csrf = get_identity(tables, person), person.csrf_headers()
    azure.plant_fault("acs", "issue", "status", about=was, **CODE)
    assert_missing(person.token(csrf=csrf))
    assert assert_replaced(azure, tables, person, person.token(csrf=csrf)) == was
    wait_for_grace()
    azure.plant_fault("acs", "issue", "status", about=was, **CODE)
    assert_missing(person.token(csrf=csrf))
    assert assert_replaced(azure, tables, person, person.token(csrf=csrf)) == was


def test_success_of_any_session_starts_the_grace_period_anew(
    azure: LocalAzure, tables: TableServiceClient, new_user: Callable[[], Person]
) -> None:
    person = new_user()
    other = Person(azure, person.url, person.account)
    assert other.sign_in().status_code == 302
    was = other.token().json()["user"]["communicationUserId"]
    wait_until(lambda: all(row.get("AcsUserId") for row in list_sessions(tables, person)))
    azure.plant_fault("acs", "issue", "status", about=was, **CODE)
    assert_missing(person.token())
    assert other.token().status_code == 200  # its session no longer caches the identity
    wait_for_grace()
    azure.plant_fault("acs", "issue", "status", about=was, **CODE)
    assert_missing(person.token())


def test_storm_replaces_five_users_per_process_and_says_so(
    azure: LocalAzure, tables: TableServiceClient, instance: Service, new_user: Callable[[], Person]
) -> None:
    people = [new_user() for _ in range(9)]
    before = {person.key: get_identity(tables, person) for person in people}
    csrf = {person.key: person.csrf_headers() for person in people}
    for person in people:
        azure.plant_fault("acs", "issue", "status", times=None, about=before[person.key], **CODE)
        assert_missing(person.token(csrf=csrf[person.key]))
    wait_for_grace()
    answers = run_together([partial(person.token, csrf=csrf[person.key]) for person in people])
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [503] * 4
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert 60 < int(refused.headers["Retry-After"]) <= 600
    (alarm,) = [event for event in read_events(instance, refused) if event["event"] == "replacement_brake"]
    assert alarm["level"] == "critical"
    azure.clear_faults()
    changed = [person for person in people if get_identity(tables, person) != before[person.key]]
    assert len(changed) == 5
    assert set(before.values()) <= set(azure.list_identities())
    for person in changed:
        run_users(instance.env, "restore", person.key, before[person.key])
    for person in people:
        answer = person.token(csrf=csrf[person.key])
        assert assert_replaced(azure, tables, person, answer) == before[person.key]


def test_ten_requests_at_once_replace_once(
    azure: LocalAzure, tables: TableServiceClient, new_user: Callable[[], Person]
) -> None:
    person = new_user()
    was, csrf = get_identity(tables, person), person.csrf_headers()
    azure.delete_identity(was)
    before = set(azure.list_identities())
    assert_missing(person.token(csrf=csrf))
    wait_for_grace()
    answers = run_together([partial(person.at(person.url).token, csrf=csrf) for _ in range(10)])
    (now,) = {assert_replaced(azure, tables, person, answer) for answer in answers}
    wait_until(lambda: set(azure.list_identities()) - before == {now}, seconds=5)


def test_replacement_that_loses_to_another_writer_takes_their_identity(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    tables: TableServiceClient,
    new_user: Callable[[], Person],
) -> None:
    person = new_user()
    was, csrf = get_identity(tables, person), person.csrf_headers()
    azure.delete_identity(was)
    assert_missing(person.token(csrf=csrf))
    wait_for_grace()
    before = set(azure.list_identities())
    rival = person.at(person.url)
    won: list[str] = []

    def overtake() -> None:
        won.append(rival.token(csrf=csrf).json()["user"]["communicationUserId"])

    storage_proxy.plant(
        Fault(
            kind="signal",
            method="P",
            table="identities",
            about=person.account.object_id,
            also="AcsUserId",
            times=1,
            action=overtake,
        )
    )
    answer = person.token(csrf=csrf)
    assert won == [assert_replaced(azure, tables, person, answer)]
    wait_until(lambda: set(azure.list_identities()) - before == set(won), seconds=5)


def test_replacement_reaches_every_session_and_bearer(
    azure: LocalAzure, tables: TableServiceClient, new_user: Callable[[], Person]
) -> None:
    person = new_user()
    other = Person(azure, person.url, person.account)
    assert other.sign_in().status_code == 302
    was = other.token().json()["user"]["communicationUserId"]
    wait_until(lambda: all(row.get("AcsUserId") for row in list_sessions(tables, person)))
    azure.plant_fault("acs", "issue", "status", times=None, about=was, **CODE)
    assert_missing(person.token())
    wait_for_grace()
    now = assert_replaced(azure, tables, person, person.token())
    azure.clear_faults()  # the incident is over, and the former identity is alive
    assert was in azure.list_identities()
    by_bearer = call("POST", f"{person.url}/api/token", headers=bearer(azure, person))
    for answer in (other.token(), person.token(), by_bearer):
        assert answer.json()["user"]["communicationUserId"] == now
    assert person.me()["communicationUserId"] == other.me()["communicationUserId"] == now


@pytest.mark.parametrize("action", ["block", "revoke", "delete"])
def test_actions_reach_the_tokens_of_former_identities(
    azure: LocalAzure,
    tables: TableServiceClient,
    instance: Service,
    new_user: Callable[[], Person],
    action: str,
) -> None:
    person = new_user()
    was = get_identity(tables, person)
    earlier = person.token().json()["token"]
    azure.plant_fault("acs", "issue", "status", times=None, about=was, **CODE)
    assert_missing(person.token())
    wait_for_grace()
    later = person.token().json()["token"]
    azure.clear_faults()
    assert azure.check_token(earlier)["valid"] is azure.check_token(later)["valid"] is True
    run_users(instance.env, action, person.key, *(["--yes"] if action == "delete" else []))
    assert azure.check_token(earlier)["valid"] is azure.check_token(later)["valid"] is False


def test_row_without_an_identity_gets_one(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person
) -> None:
    insert_identity_row(tables, signed_in, acs_user_id="")
    assert_replaced(azure, tables, signed_in, signed_in.token())


def test_identity_of_another_resource_is_never_replaced_by_itself(
    azure: LocalAzure, tables: TableServiceClient, regular: Person, signed_in: Person
) -> None:
    foreign = f"8:acs:{uuid.uuid4()}_{uuid.uuid4()}"
    insert_identity_row(tables, signed_in, acs_user_id=foreign)
    before = azure.list_identities()
    assert_problem(signed_in.token(), 503, "upstream_unavailable")
    assert get_identity(tables, signed_in) == foreign
    assert azure.list_identities() == before
