"""Identities reported missing: replaced only after a grace period and at a limited rate, and never lost."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import requests

from tests.support.commands import run_users
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.log import read_events
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import find_entry
from tests.support.service import Service

GRACE = 2


@pytest.fixture
def world(world: World) -> Iterator[World]:
    """A world whose own service has a grace period and has replaced no identity yet."""
    settings = world.settings | {"MISSING_IDENTITY_GRACE_SECONDS": str(GRACE)}
    with Service(settings, measured=True) as service:
        yield replace(world, service=service, settings=settings)


def wait_for_grace() -> None:
    time.sleep(GRACE + 0.1)


def assert_missing(response: requests.Response) -> None:
    """Check that the client is told to retry within the grace period."""
    assert_problem(response, 503, "upstream_unavailable")
    assert 1 <= int(response.headers["Retry-After"]) <= GRACE


def assert_identity(world: World, person: Person, response: requests.Response) -> str:
    """Check that the response has a valid token for the row's identity; return the identity."""
    assert response.status_code == 200, response.text
    identity = world.identity_of(person)
    assert response.json()["user"]["communicationUserId"] == identity
    check = world.azure.check_token(response.json()["token"])
    assert (check["valid"], check["identity"]) == (True, identity)
    return identity


@pytest.mark.parametrize("channel", ["cookie", "bearer"])
def test_deleted_identity_is_replaced_after_grace_period(world: World, channel: str) -> None:
    person = world.new_user()
    former, csrf = world.identity_of(person), person.csrf_headers()
    ask = partial(person.token, csrf=csrf) if channel == "cookie" else partial(world.token_by_bearer, person)
    world.azure.delete_identity(former)
    assert_missing(ask())
    assert world.identity_of(person) == former
    wait_for_grace()
    current = assert_identity(world, person, ask())
    assert current != former
    assert assert_identity(world, person, person.token(csrf=csrf)) == current
    wait_until(lambda: find_entry(world.tables, current) is not None)
    entry = find_entry(world.tables, former)
    assert entry is not None
    assert (entry["ObjectId"], entry["Reason"]) == (person.account.object_id, "replaced")
    assert entry["Since"] < entry["Until"]


def test_other_refusals_never_replace_an_identity(world: World) -> None:
    refusals: list[dict[str, object]] = [{"status": 404}, {"status": 401}, {"status": 403}]
    refusals += [{"status": 401, "code": code} for code in ("IdentityNotOwned", "Denied")]
    bodies: list[object] = [{"statusCode": 404, "message": "Resource not found"}]
    bodies += ["<html><h1>404 Not Found</h1></html>", {"error": {"code": "404", "message": "Site not found"}}]
    refusals += [{"status": 404, "body": body} for body in bodies]
    refusals += [{"status": 410, "code": "IdentityNotFound"}]
    refused = [(refusal, person := world.new_user(), world.identity_of(person)) for refusal in refusals]
    for refusal, person, identity in refused:
        world.azure.plant_fault("acs", "issue", "status", times=None, about=identity, **refusal)
        assert_problem(person.token(), 503, "upstream_unavailable")
    wait_for_grace()
    for _, person, _ in refused:
        assert_problem(person.token(), 503, "upstream_unavailable")
    world.azure.clear_faults()
    for refusal, person, identity in refused:
        assert assert_identity(world, person, person.token()) == identity, refusal


def test_gateway_404_fails_an_action(world: World) -> None:
    person = world.new_user()
    identity, csrf = world.identity_of(person), person.csrf_headers()
    for action, method, path in (("revoke", "POST", "/api/me/revoke"), ("delete", "DELETE", "/api/me")):
        body = "<html>Not Found</html>"
        world.azure.plant_fault("acs", action, "status", status=404, body=body, about=identity)
        assert_problem(person.call(method, path, headers=csrf), 503, "upstream_unavailable")
        assert identity in world.azure.list_identities()


@pytest.mark.parametrize("sessions", [1, 2])
def test_success_restarts_the_grace_period(world: World, sessions: int) -> None:
    """The success may come from another session, which no longer caches the identity."""
    person = world.new_user()
    other = person if sessions == 1 else person.in_new_browser()
    identity = assert_identity(world, person, other.token())
    wait_until(lambda: all(row.get("AcsUserId") for row in world.list_sessions(person)))
    world.lose_identity(identity)
    assert_missing(person.token())
    assert assert_identity(world, person, other.token()) == identity
    wait_for_grace()
    world.lose_identity(identity)
    assert_missing(person.token())
    assert assert_identity(world, person, person.token()) == identity


def test_mass_loss_replaces_five_identities_and_alerts(world: World) -> None:
    people = [world.new_user() for _ in range(9)]
    before = {person: world.identity_of(person) for person in people}
    csrf = {person: person.csrf_headers() for person in people}
    for person in people:
        world.lose_identity(before[person], times=None)
        assert_missing(person.token(csrf=csrf[person]))
    wait_for_grace()
    responses = run_concurrently([partial(person.token, csrf=csrf[person]) for person in people])
    assert sorted(response.status_code for response in responses) == [200] * 5 + [503] * 4
    refused = next(response for response in responses if response.status_code == 503)
    assert 60 < int(refused.headers["Retry-After"]) <= 600
    events = read_events(world.service, refused)
    assert [event["level"] for event in events if event["event"] == "replacement_brake"] == ["critical"]
    world.azure.clear_faults()
    replaced = [person for person in people if world.identity_of(person) != before[person]]
    assert len(replaced) == 5
    assert set(before.values()) <= set(world.azure.list_identities())
    for person in replaced:
        run_users(world.service.env, "restore", person.key, before[person])
    for person in people:
        assert assert_identity(world, person, person.token(csrf=csrf[person])) == before[person]


@pytest.mark.parametrize("requests_at_once", [1, 10])
def test_concurrent_replacements_leave_one_identity(world: World, requests_at_once: int) -> None:
    """Ten requests run at once, or one overtakes another right before its write."""
    person = world.new_user()
    csrf = person.csrf_headers()
    world.azure.delete_identity(world.identity_of(person))
    before = set(world.azure.list_identities())
    assert_missing(person.token(csrf=csrf))
    wait_for_grace()
    responses: list[requests.Response] = []
    if requests_at_once == 1:
        about, overtake = person.account.object_id, partial(person.at(person.url).token, csrf=csrf)
        world.run_before("P", "identities", about, lambda: responses.append(overtake()), also="AcsUserId")
    calls = [partial(person.at(person.url).token, csrf=csrf) for _ in range(requests_at_once)]
    responses += run_concurrently(calls)
    assert len(responses) == max(requests_at_once, 2)
    (current,) = {assert_identity(world, person, response) for response in responses}
    wait_until(lambda: set(world.azure.list_identities()) - before == {current}, seconds=5)


def test_replacement_reaches_every_session_and_bearer(world: World) -> None:
    person = world.new_user()
    other = person.in_new_browser()
    former = other.token().json()["user"]["communicationUserId"]
    wait_until(lambda: all(row.get("AcsUserId") for row in world.list_sessions(person)))
    world.lose_identity(former, times=None)
    assert_missing(person.token())
    wait_for_grace()
    current = assert_identity(world, person, person.token())
    world.azure.clear_faults()  # the incident is over, and the former identity still exists
    assert former in world.azure.list_identities()
    for response in (other.token(), person.token(), world.token_by_bearer(person)):
        assert response.json()["user"]["communicationUserId"] == current
    assert person.me()["communicationUserId"] == other.me()["communicationUserId"] == current


@pytest.mark.parametrize("action", ["block", "revoke", "delete"])
def test_actions_reach_tokens_of_former_identities(world: World, action: str) -> None:
    person = world.new_user()
    earlier = person.token().json()["token"]
    world.lose_identity(world.identity_of(person), times=None)
    assert_missing(person.token())
    wait_for_grace()
    later = person.token().json()["token"]
    world.azure.clear_faults()
    assert [world.azure.check_token(token)["valid"] for token in (earlier, later)] == [True, True]
    run_users(world.service.env, action, person.key, *(["--yes"] if action == "delete" else []))
    assert [world.azure.check_token(token)["valid"] for token in (earlier, later)] == [False, False]
