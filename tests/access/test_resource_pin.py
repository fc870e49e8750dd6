"""Another Communication Services resource changes no identity until an operator accepts it."""

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from tests.support.admin_client import Admin
from tests.support.commands import CommandFailed, run_users
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.new_table import new_table
from tests.support.own_azure import World, own_azure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import find_entry, list_former, list_rows
from tests.support.service import ROOT, Service
from trusted_service.access.resource_pin import ResourcePin
from trusted_service.errors import WrongResource
from trusted_service.services import Services
from trusted_service.storage.identities import IdentityTable


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with own_azure(workers=2, measured=True) as running:
        yield running


@pytest.fixture
def new_world() -> Iterator[World]:
    """A world of its own for a test that moves users to the other resource."""
    with own_azure(measured=True) as running:
        yield running


def start_other_slot(world: World) -> Service:
    """Return the same service with another slot's settings, which name another resource."""
    other = {"COMMUNICATION_SERVICES_CONNECTION_STRING": world.azure.other_connection_string}
    return world.new_instance(other, measured=True)


@pytest.fixture
def other_slot(world: World) -> Iterator[Service]:
    with start_other_slot(world) as service:
        yield service


def resource_ids(world: World) -> tuple[str, str]:
    first, second = world.azure.list_endpoints()
    return str(first["resourceId"]), str(second["resourceId"])


def list_mappings(world: World) -> dict[str, str]:
    """Return each user's identity, by the user's key."""
    rows = world.tables.get_table_client("identities").list_entities()
    return {f"{row['RowKey']}/{row['PartitionKey']}": str(row["AcsUserId"]) for row in rows}


def identity_in(response: requests.Response) -> str:
    return str(response.json()["user"]["communicationUserId"])


def check_config(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "check-config", "--connect"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_other_resource_is_503_and_changes_nothing(world: World, other_slot: Service) -> None:
    person, newcomer = world.new_user(), world.new_person()
    before, identities = list_mappings(world), world.azure.list_identities()
    for response in (
        person.at(other_slot.url).token(),  # from a session that has cached the identity
        world.token_by_bearer(person, other_slot),
        world.token_by_bearer(newcomer, other_slot),
    ):
        assert_problem(response, 503, "upstream_unavailable")
    assert list_mappings(world) == before
    assert world.azure.list_identities() == identities, "an identity created there is deleted again"
    assert identity_in(person.token()) == before[person.key]


def test_readiness_and_check_config_name_the_resource(world: World, other_slot: Service) -> None:
    world.new_user()
    identities = world.azure.list_identities()
    response = requests.get(f"{other_slot.url}/readyz", timeout=30)
    assert response.status_code == 503
    assert response.json() == {"entraId": "ok", "tableStorage": "ok", "communicationServices": "failing"}
    assert world.azure.list_identities() == identities
    completed = check_config(other_slot.env)
    assert completed.returncode == 1
    (line,) = [line for line in completed.stdout.splitlines() if line.startswith("communicationServices")]
    assert all(resource in line for resource in resource_ids(world)), line
    assert world.azure.list_identities() == identities
    assert requests.get(f"{world.service.url}/readyz", timeout=30).status_code == 200
    assert check_config(world.service.env).returncode == 0


@pytest.mark.parametrize(
    ("action", "expected"), [("block", "revocation"), ("revoke", ""), ("delete", "deletion did not finish")]
)
def test_action_in_other_resource_reports_failure(
    world: World, other_slot: Service, action: str, expected: str
) -> None:
    person = world.new_user()
    identity, token = world.identity_of(person), person.token().json()["token"]
    admin_there = Admin(world.admin.person.at(other_slot.url))
    problem = assert_problem(admin_there.act("api", person, action), 503, "upstream_unavailable")
    assert world.azure.check_token(token)["valid"] is True
    assert expected in problem["detail"]
    page = admin_there.act("page", person, action)
    assert page.status_code == 503
    assert expected in page.text
    with pytest.raises(CommandFailed, match="IdentityNotOwned"):
        run_users(other_slot.env, action, person.key, *(["--yes"] if action == "delete" else []))
    trail = f"user-{person.account.object_id}-{person.account.tenant_id}"
    events = list_rows(world.tables, "audit", "PartitionKey", trail)
    assert {event["Outcome"] for event in events if event["Action"] == action} == {"started", "failed"}
    assert world.identity_of(person) == identity
    assert [bool(row["Blocked"]) for row in world.list_rows(person)] == [action == "block"]
    world.admin.do("api", person, action)
    assert world.azure.check_token(token)["valid"] is False


@pytest.mark.timeout(240)
def test_swapping_resources_under_load_changes_no_row(world: World) -> None:
    people = [world.new_user() for _ in range(12)]
    csrf = {person: person.csrf_headers() for person in people}
    before, over, statuses = list_mappings(world), threading.Event(), set[int]()

    def ask_until_over(person: Person) -> None:
        while not over.is_set():
            by_cookie, by_bearer = person.token(csrf=csrf[person]), world.token_by_bearer(person)
            statuses.update((by_cookie.status_code, by_bearer.status_code))

    def swap() -> None:
        try:
            for _ in range(4):
                over.wait(1.5)
                world.azure.swap_resources()
        finally:
            over.set()

    run_concurrently([partial(swap), *(partial(ask_until_over, person) for person in people)])
    assert statuses == {200, 503}
    assert list_mappings(world) == before
    assert set(before.values()) - {""} <= set(world.azure.list_identities())
    for person in people:
        assert identity_in(person.token(csrf=csrf[person])) == before[person.key]


def plan_move(env: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run_users(env, "move-resource", "--dry-run", "--json"))
    return document


def test_move_requires_confirmation_and_is_per_user(new_world: World) -> None:
    world = new_world
    first, second = resource_ids(world)
    person, later = world.new_user(), world.new_user()
    mappings = list_mappings(world)
    with start_other_slot(world) as service:
        there = person.at(service.url)
        assert_problem(there.token(), 503, "upstream_unavailable")
        plan = plan_move(service.env)
        assert (plan["from"], plan["to"]) == (f"8:acs:{first}", f"8:acs:{second}")
        assert plan["users"] == len([identity for identity in mappings.values() if first in identity])
        with pytest.raises(CommandFailed):  # not confirmed
            run_users(service.env, "move-resource")
        assert plan_move(service.env)["needed"] is True
        assert_problem(there.token(), 503, "upstream_unavailable")
        assert world.token_by_bearer(person).status_code == 200
        output = run_users(service.env, "move-resource", "--yes")
        assert first in output
        assert second in output
        assert plan_move(service.env)["needed"] is False
        token = there.token()
        identity = identity_in(token)
        assert second in identity
        assert world.azure.check_token(token.json()["token"])["valid"] is True
        assert identity_in(world.token_by_bearer(person, service)) == identity
        assert world.identity_of(later) == mappings[later.key]
        assert second in identity_in(world.token_by_bearer(later, service))
        assert requests.get(f"{service.url}/readyz", timeout=30).status_code == 200
        wait_until(lambda: find_entry(world.tables, identity) is not None)
        former = find_entry(world.tables, mappings[person.key])
        assert former is not None
        assert former["Reason"] == "moved"
        account = person.account
        assert list_former(world.tables, account.object_id, account.tenant_id) == [mappings[person.key]]
        assert set(mappings.values()) <= set(world.azure.list_identities())
        # The instance with the former settings now uses the wrong resource.
        wait_until(lambda: world.token_by_bearer(world.new_person()).status_code == 503)
        with pytest.raises(CommandFailed, match="another Communication Services resource"):
            run_users(service.env, "restore", person.key, mappings[person.key])
        # Tokens of the former identity may be valid for a day, and cannot be revoked here.
        with pytest.raises(CommandFailed, match="blocked, but tokens are not revoked"):
            run_users(service.env, "block", person.key)
        assert_problem(world.token_by_bearer(person, service), 403, "blocked")
        with pytest.raises(CommandFailed, match="deleted, but tokens are not revoked"):
            run_users(service.env, "delete", later.key, "--yes")
        assert world.list_rows(later) == []


def test_move_back_restores_former_identities(new_world: World) -> None:
    world = new_world
    person, untouched = world.new_user(), world.new_user()
    identities = {user: world.identity_of(user) for user in (person, untouched)}
    with start_other_slot(world) as service:
        run_users(service.env, "move-resource", "--yes")
        assert world.token_by_bearer(person, service).status_code == 200
    with world.new_instance({}) as service:
        assert_problem(world.token_by_bearer(untouched, service), 503, "upstream_unavailable")
        run_users(service.env, "move-resource", "--yes")
        assert identity_in(world.token_by_bearer(untouched, service)) == identities[untouched]
        former = list_former(world.tables, person.account.object_id, person.account.tenant_id)
        assert former == [identities[person]]
        run_users(service.env, "restore", person.key, *former)
        assert identity_in(world.token_by_bearer(person, service)) == former[0]


def test_move_is_seen_before_a_new_identity_is_refused(settings: dict[str, str], services: Services) -> None:
    table = new_table(settings)
    here, there = (ResourcePin(table, IdentityTable(table, table), services.communication) for _ in range(2))
    old, new = (f"8:acs:{uuid.uuid4()}" for _ in range(2))
    for pin in (here, there):
        pin.admit(f"{old}_{uuid.uuid4()}")
    here.move(here.find(fresh=True), new, frozenset([old]))
    there.admit(f"{new}_{uuid.uuid4()}")
    with pytest.raises(WrongResource):
        there.admit(f"{old}_{uuid.uuid4()}")
