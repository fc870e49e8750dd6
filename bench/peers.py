"""Repeats the peer experiments with this service: `python -m bench.peers`.

The peers were measured once, by running Microsoft's authentication hero (Node.js) against stand-ins.
"""

import statistics
from collections.abc import Callable
from functools import partial

import click
import requests

from tests.support.admin_client import bearer, call
from tests.support.concurrency import run_concurrently, timed, wait_until
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.report import render
from tests.support.rows import get_identity, list_identity_rows, list_sessions
from tests.support.storage_proxy import Fault

AT_ONCE = 10
DELAY_SECONDS = 0.02
SAMPLES = 100
AFTERWARDS = ("PATCH", "sessions")
"""The first write after the response."""


def main() -> None:
    """Run all experiments, and print the results beside the peers'."""
    cells = []
    with own_azure() as world:
        for (name, theirs), experiment in EXPERIMENTS.items():
            ours = experiment(world)
            world.azure.clear_faults()
            world.storage.clear()
            cells += [("experiment", name, "this service", ours)]
            cells += [("experiment", name, "authentication hero", theirs)]
    for line in render(cells):
        click.echo(line)


def ten_at_once(world: OwnAzure) -> str:
    person = world.new_person()
    person.sign_in()
    csrf, before = person.csrf_headers(), set(world.azure.list_identities())
    browsers = [person.at(person.url) for _ in range(AT_ONCE)]
    responses = run_concurrently([partial(browser.token, csrf=csrf) for browser in browsers])
    good = sum(response.status_code == 200 for response in responses)
    wait_until(lambda: len(set(world.azure.list_identities()) - before) == 1, seconds=10)
    live = set(world.azure.list_identities()) - before
    rows = len(list_identity_rows(world.tables, person))
    return f"{len(live)} identity, {len(live) - rows} orphans, {good} tokens for it"


def throttled(world: OwnAzure) -> str:
    person = warm(world)
    csrf = person.csrf_headers()
    world.azure.reset_calls()
    world.azure.plant_fault("acs", "*", "status", times=None, status=429, retryAfter="7")
    response, seconds = timed(lambda: person.token(csrf=csrf))
    calls = world.azure.count_calls("acs").get("issue", 0)
    passed_on = response.headers.get("Retry-After")
    return f"{calls} call, {seconds:.2f} s, {response.status_code} with Retry-After: {passed_on}"


def failing_delete(world: OwnAzure) -> str:
    person = warm(world)
    world.azure.plant_fault("acs", "delete", "status", times=None, status=500)
    erase = partial(call, "DELETE", f"{person.url}/api/me", headers=bearer(world.azure, person))
    response, seconds = timed(erase)
    world.azure.clear_faults()
    return f"{response.status_code} after {seconds:.2f} s; again: {erase().status_code}"


def silent_delete(world: OwnAzure) -> str:
    person = warm(world)
    world.azure.plant_fault("acs", "delete", "hang", times=None)
    erase = partial(call, "DELETE", f"{person.url}/api/me", headers=bearer(world.azure, person))
    response, seconds = timed(erase)
    world.azure.clear_faults()
    return f"{response.status_code} after {seconds:.1f} s; again: {erase().status_code}"


def lost_identity(world: OwnAzure) -> str:
    person = warm(world)
    world.azure.delete_identity(get_identity(world.tables, person))
    response = person.token()
    check = world.azure.check_token(response.json()["token"])
    return f"{response.status_code}, a good token for a new identity" if check["valid"] else "a bad token"


def foreign_bearer(world: OwnAzure) -> str:
    person = world.new_person()
    headers = bearer(world.azure, person, tamper="wrong-aud")
    return str(call("POST", f"{person.url}/api/token", headers=headers).status_code)


def no_bearer(world: OwnAzure) -> str:
    return str(call("POST", f"{world.service.url}/api/token", headers={}).status_code)


def calls_of(world: OwnAzure, response: requests.Response) -> int:
    """Return the number of upstream calls that the request made before its response."""
    before = [made for made in world.storage.calls_for(response) if (made.method, made.table) != AFTERWARDS]
    return len(world.azure.calls_for(response)) + len(before)


def warm_calls(world: OwnAzure) -> str:
    return f"{calls_of(world, warm(world).token())}"


def first_calls(world: OwnAzure) -> str:
    person = world.new_person()
    person.sign_in()
    csrf = person.csrf_headers()
    world.storage.wait_until_quiet()
    # All other background tasks of the request wait behind this one.
    world.storage.plant(Fault(kind="hang", method=AFTERWARDS[0], table=AFTERWARDS[1]))
    return f"{calls_of(world, person.token(csrf=csrf))}"


def median(world: OwnAzure) -> str:
    person = warm(world)
    csrf = person.csrf_headers()
    world.storage.plant(Fault(kind="delay", seconds=DELAY_SECONDS))
    world.azure.plant_fault("acs", "*", "delay", times=None, seconds=DELAY_SECONDS)
    seconds = [timed(lambda: person.token(csrf=csrf))[1] for _ in range(SAMPLES)]
    return f"{statistics.median(seconds) * 1000:.1f} ms"


def warm(world: OwnAzure) -> Person:
    """Return a user whose session holds their identity."""
    person = world.new_user()
    wait_until(lambda: all(row.get("AcsUserId") for row in list_sessions(world.tables, person)))
    world.storage.wait_until_quiet()
    return person


Experiment = Callable[[OwnAzure], str]

EXPERIMENTS: dict[tuple[str, str], Experiment] = {
    ("ten first requests at once", "10 identities, 9 orphans, nine 500s"): ten_at_once,
    ("Communication Services returns 429", "11 calls, 10.2 s, then 500"): throttled,
    ("Communication Services returns 5xx for a delete", "hung 348 s"): failing_delete,
    ("Communication Services hangs on a delete", "not measured"): silent_delete,
    ("identity deleted in Communication Services", "500 for ever"): lost_identity,
    ("bearer token for another API", "accepted"): foreign_bearer,
    ("no bearer token", "500"): no_bearer,
    ("upstream calls for a warm token", "5"): warm_calls,
    ("upstream calls for a first token", "11"): first_calls,
    ("median at 20 ms per upstream call", "112.8 ms"): median,
}


if __name__ == "__main__":
    main()
