"""Another Communication Services resource answers: nobody loses an identity until an operator says so."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from tests.support.commands import CommandFailed, run_users
from tests.support.desk import Desk, bearer, call
from tests.support.identity_rows import get_identity, list_identity_rows
from tests.support.ledger_rows import find_entry, list_former
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import ROOT, Service
from tests.support.together import run_together, wait_until

ACS = "COMMUNICATION_SERVICES_CONNECTION_STRING"


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    with own_azure(workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def clerk(own: OwnAzure) -> Desk:
    return own.new_desk()


@pytest.fixture
def elsewhere(own: OwnAzure) -> Iterator[Service]:
    """The same service with the settings of another slot: they lead to another resource."""
    other = {ACS: own.azure.other_connection_string, "PUBLIC_URL": own.service.url}
    with Service(own.settings | other) as service:
        yield service


def resource_ids(own: OwnAzure) -> tuple[str, str]:
    first, second = own.azure.list_endpoints()
    return str(first["resourceId"]), str(second["resourceId"])


def snapshot(own: OwnAzure) -> dict[str, str]:
    """Which identity each user has."""
    rows = own.tables.get_table_client("identities").list_entities()
    return {f"{row['RowKey']}/{row['PartitionKey']}": str(row["AcsUserId"]) for row in rows}


def ask(own: OwnAzure, person: Person, at: Service) -> requests.Response:
    """A token by bearer at this instance."""
    return call("POST", f"{at.url}/api/token", headers=bearer(own.azure, person))


def check_config(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "check-config", "--connect"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_other_resource_answers_503_and_changes_nothing(
    own: OwnAzure, clerk: Desk, elsewhere: Service
) -> None:
    person, stranger = own.new_user(), own.new_person()
    before, identities = snapshot(own), own.azure.list_identities()
    for answer in (
        person.at(elsewhere.url).token(),  # by a session that has cached the identity
        ask(own, person, elsewhere),
        ask(own, stranger, elsewhere),
    ):
        assert_problem(answer, 503, "upstream_unavailable")
    assert snapshot(own) == before
    assert own.azure.list_identities() == identities, "what was created there is deleted again"
    assert person.token().json()["user"]["communicationUserId"] == before[person.key]


def test_readiness_and_check_config_name_the_other_resource(own: OwnAzure, elsewhere: Service) -> None:
    own.new_user()
    identities = own.azure.list_identities()
    answer = requests.get(f"{elsewhere.url}/readyz", timeout=30)
    assert answer.status_code == 503
    assert answer.json() == {"entraId": "ok", "tableStorage": "ok", "communicationServices": "failing"}
    assert own.azure.list_identities() == identities
    done = check_config(elsewhere.env)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("communicationServices")]
    assert all(resource in line for resource in resource_ids(own)), line
    assert own.azure.list_identities() == identities
    assert requests.get(f"{own.service.url}/readyz", timeout=30).status_code == 200
    assert check_config(own.service.env).returncode == 0


@pytest.mark.parametrize("action", ["block", "revoke", "delete"])
def test_no_action_claims_what_the_other_resource_did_not_do(
    own: OwnAzure, clerk: Desk, elsewhere: Service, action: str
) -> None:
    person = own.new_user()
    identity, token = get_identity(own.tables, person), person.token().json()["token"]
    there = Desk(clerk.person.at(elsewhere.url))
    problem = assert_problem(there.act("api", person, action), 503, "upstream_unavailable")
    assert own.azure.check_token(token)["valid"] is True
    expected = {"block": "revocation", "revoke": "", "delete": "deletion did not finish"}[action]
    assert expected in problem["detail"]
    page = there.act("page", person, action)
    assert page.status_code == 503
    assert expected in page.text
    with pytest.raises(CommandFailed, match="IdentityNotOwned"):
        run_users(elsewhere.env, action, person.key, *(["--yes"] if action == "delete" else []))
    events = own.tables.get_table_client("audit").query_entities(
        "PartitionKey eq @user",
        parameters={"user": f"user-{person.account.object_id}-{person.account.tenant_id}"},
    )
    outcomes = {event["Outcome"] for event in events if event["Action"] == action}
    assert outcomes == {"started", "failed"}
    (row,) = list_identity_rows(own.tables, person)
    assert row["AcsUserId"] == identity
    assert bool(row["Blocked"]) is (action == "block")
    clerk.do("api", person, action)
    assert own.azure.check_token(token)["valid"] is False


def test_erasure_by_oneself_is_not_claimed_either(own: OwnAzure, elsewhere: Service) -> None:
    person = own.new_user()
    headers = bearer(own.azure, person)
    answer = call("DELETE", f"{elsewhere.url}/api/me", headers=headers)
    assert_problem(answer, 503, "upstream_unavailable")
    assert call("DELETE", f"{own.service.url}/api/me", headers=headers).status_code == 204
    assert list_identity_rows(own.tables, person) == []


@pytest.mark.timeout(240)
def test_resources_swapped_under_load_change_not_one_row(own: OwnAzure) -> None:
    people = [own.new_user() for _ in range(12)]
    csrf = {person.key: person.csrf_headers() for person in people}
    before, over, statuses = snapshot(own), threading.Event(), list[int]()

    def go_on(person: Person) -> None:
        while not over.is_set():
            by_cookie, by_bearer = person.token(csrf=csrf[person.key]), ask(own, person, own.service)
            statuses.extend((by_cookie.status_code, by_bearer.status_code))

    threads = [threading.Thread(target=go_on, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            over.wait(1.5)
            own.azure.swap_resources()
            over.wait(1.5)
            own.azure.swap_resources()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200, 503}
    assert snapshot(own) == before
    assert set(before.values()) - {""} <= set(own.azure.list_identities())
    for person in people:
        answer = person.token(csrf=csrf[person.key])
        assert answer.json()["user"]["communicationUserId"] == before[person.key]


def plan(env: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run_users(env, "move-resource", "--dry-run", "--json"))
    return document


def test_move_is_deliberate_and_comes_user_by_user(elsewhere_moved: "Moved") -> None:
    own, moved = elsewhere_moved.own, elsewhere_moved
    first, second = resource_ids(own)
    warm, cold = moved.warm, moved.cold
    was = {person.key: get_identity(own.tables, person) for person in (warm, cold)}
    with Service(own.settings | moved.settings) as service:
        assert_problem(warm.at(service.url).token(), 503, "upstream_unavailable")
        found = plan(service.env)
        assert (found["from"], found["to"]) == (f"8:acs:{first}", f"8:acs:{second}")
        assert found["users"] == len([identity for identity in snapshot(own).values() if first in identity])
        assert_problem(warm.at(service.url).token(), 503, "upstream_unavailable")
        said = run_users(service.env, "move-resource", "--yes")
        assert first in said
        assert second in said
        assert plan(service.env)["needed"] is False
        token = warm.at(service.url).token()
        now = token.json()["user"]["communicationUserId"]
        assert second in now
        assert own.azure.check_token(token.json()["token"])["valid"] is True
        assert ask(own, warm, service).json()["user"]["communicationUserId"] == now
        assert get_identity(own.tables, cold) == was[cold.key]
        assert second in ask(own, cold, service).json()["user"]["communicationUserId"]
        assert requests.get(f"{service.url}/readyz", timeout=30).status_code == 200
        wait_until(lambda: find_entry(own.tables, now) is not None)
        former = find_entry(own.tables, was[warm.key])
        assert former is not None
        assert former["Reason"] == "moved"
        mine = (warm.account.object_id, warm.account.tenant_id)
        assert list_former(own.tables, *mine) == [was[warm.key]]
        assert set(was.values()) <= set(own.azure.list_identities())
        # The instance with the former settings is the wrong one now.
        wait_until(lambda: ask(own, own.new_person(), own.service).status_code == 503)
        with pytest.raises(CommandFailed, match="another Communication Services resource"):
            run_users(service.env, "restore", warm.key, was[warm.key])
        # Tokens of the former identity may be good for a day, and nobody here can revoke them: that is said.
        with pytest.raises(CommandFailed, match="blocked, but tokens are not revoked"):
            run_users(service.env, "block", warm.key)
        assert_problem(ask(own, warm, service), 403, "blocked")
        with pytest.raises(CommandFailed, match="deleted, but tokens are not revoked"):
            run_users(service.env, "delete", cold.key, "--yes")
        assert list_identity_rows(own.tables, cold) == []


class Moved:
    """An Azure of its own, two users, and the settings of the other resource."""

    def __init__(self, own: OwnAzure) -> None:
        self.own = own
        self.warm, self.cold = own.new_user(), own.new_user()
        self.settings = {ACS: own.azure.other_connection_string, "PUBLIC_URL": own.service.url}


@pytest.fixture
def elsewhere_moved() -> Iterator[Moved]:
    with own_azure() as own:
        yield Moved(own)


def test_back_to_the_first_resource_users_keep_what_they_had(elsewhere_moved: Moved) -> None:
    own, moved = elsewhere_moved.own, elsewhere_moved
    was = get_identity(own.tables, moved.cold)
    with Service(own.settings | moved.settings) as service:
        run_users(service.env, "move-resource", "--yes")
        assert ask(own, moved.warm, service).status_code == 200
    with Service(own.settings | {"PUBLIC_URL": own.service.url}) as service:
        assert_problem(ask(own, moved.cold, service), 503, "upstream_unavailable")
        run_users(service.env, "move-resource", "--yes")
        assert ask(own, moved.cold, service).json()["user"]["communicationUserId"] == was
        former = list_former(own.tables, moved.warm.account.object_id, moved.warm.account.tenant_id)
        run_users(service.env, "restore", moved.warm.key, *former)
        answer = ask(own, moved.warm, service)
        assert answer.json()["user"]["communicationUserId"] == former[0]


def test_ten_at_once_move_once(elsewhere_moved: Moved) -> None:
    own, moved = elsewhere_moved.own, elsewhere_moved
    with Service(own.settings | moved.settings, workers=2) as service:
        run_users(service.env, "move-resource", "--yes")
        before = set(own.azure.list_identities())
        answers = run_together([partial(ask, own, moved.warm, service) for _ in range(10)])
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
        (identity,) = {answer.json()["user"]["communicationUserId"] for answer in answers}
        wait_until(lambda: set(own.azure.list_identities()) - before == {identity})


def test_move_that_nobody_confirms_changes_nothing(elsewhere_moved: Moved) -> None:
    own, moved = elsewhere_moved.own, elsewhere_moved
    env = own.service.env | moved.settings
    with pytest.raises(CommandFailed):
        run_users(env, "move-resource")
    assert plan(env)["needed"] is True
    assert ask(own, moved.warm, own.service).status_code == 200
