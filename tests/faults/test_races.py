"""Another process shuts a user out right before each call of a request that would let the user in."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pytest
import requests

from tests.support import upstream_calls as calls
from tests.support.admin_client import ROLE, Admin, bearer, call, post_token
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.report import RecordCell
from tests.support.rows import find_orphans
from tests.support.service import Service
from tests.support.upstream_calls import UpstreamCall, fail_call

pytestmark = pytest.mark.timeout(300)  # the first test waits for all races

TABLE = "request, held right before"
SWEEP_SECONDS = 20.0
USERS = 4

Request = Literal["sign-in", "first token", "warm token", "bearer token"]
ACTIONS = ("block", "delete", "revoke", "sign-out", "erase")

HELD: list[tuple[Request, str, UpstreamCall]] = [
    ("sign-in", "session insert", calls.SESSION_INSERT),
    ("sign-in", "block read", calls.IDENTITY_READ),
    ("first token", "session read", calls.SESSION_READ),
    ("first token", "row read", calls.IDENTITY_READ),
    ("first token", "create", calls.CREATE),
    ("first token", "insert", calls.INSERT),
    ("first token", "last look", calls.LAST_LOOK),
    ("warm token", "session read", calls.SESSION_READ),
    ("warm token", "issue", calls.ISSUE),
    ("bearer token", "row read", calls.IDENTITY_READ),
    ("bearer token", "issue", calls.ISSUE),
]


@dataclass(frozen=True)
class Race:
    """A request held right before one of its calls, and the action that runs meanwhile."""

    request: Request
    name: str
    call: UpstreamCall
    action: str

    def __str__(self) -> str:
        return f"{self.request}, {self.name}: {self.action}"


RACES = [Race(*held, action) for held in HELD for action in ACTIONS]


@dataclass(frozen=True)
class Start:
    """A user before the race; `minutes`, the lifetime of a first token, identifies their create call."""

    race: Race
    person: Person
    minutes: int
    request: Callable[[], requests.Response]
    act: Callable[[], requests.Response]
    earlier_token: str


@dataclass(frozen=True)
class Result:
    """The responses to the request and to the action."""

    start: Start
    response: requests.Response
    action_response: requests.Response

    @property
    def token(self) -> str | None:
        return str(self.response.json()["token"]) if self.response.status_code == 200 else None


@dataclass(frozen=True, kw_only=True)
class Races:
    """All races. `admins`: an administrator at each process."""

    world: OwnAzure
    admins: tuple[Admin, Admin]
    results: dict[Race, Result]


def prepare(world: OwnAzure, admin: Admin, race: Race, minutes: int) -> Start:
    """Prepare a new user for the race; the action runs in the administrator's process."""
    person = world.new_person()
    earlier, headers = "", bearer(world.azure, person)
    callback = person.start_sign_in() if race.request == "sign-in" else ""
    if not callback:
        person.signed_in()
    if race.request != "first token":
        earlier = post_token(person, headers).json()["token"]
    csrf = {} if callback else person.csrf_headers()
    if race.request == "warm token":
        assert person.token(csrf=csrf).status_code == 200
    send: dict[Request, Callable[[], requests.Response]] = {
        "sign-in": partial(person.finish_sign_in, callback),
        "first token": partial(person.token, {"expiresInMinutes": minutes}, csrf=csrf),
        "warm token": partial(person.token, csrf=csrf),
        "bearer token": partial(post_token, person, headers),
    }
    act = partial(admin.act, "api", person, race.action)
    if race.action == "erase":
        act = partial(call, "DELETE", f"{admin.person.url}/api/me", headers=headers)
    return Start(race, person, minutes, request=send[race.request], act=act, earlier_token=earlier)


def run(world: OwnAzure, start: Start) -> Result:
    responses: list[requests.Response] = []
    hold = hold_at_acs if start.race.call.acs else hold_at_storage
    response = hold(world, start, lambda: responses.append(start.act()))
    return Result(start, response, *responses)


def hold_at_storage(world: OwnAzure, start: Start, act: Callable[[], None]) -> requests.Response:
    held, about = start.race.call, start.person.account.object_id
    if held.table == "sessions" and held.method == "GET":
        about = world.list_sessions(start.person)[0]["PartitionKey"]
    fault = fail_call(world, held, "signal", about=about, times=1, action=act)
    response = start.request()
    assert fault is not None
    assert fault.times == 0
    return response


def hold_at_acs(world: OwnAzure, start: Start, act: Callable[[], None]) -> requests.Response:
    azure, rows = world.azure, world.list_rows(start.person)
    about = rows[0]["AcsUserId"] if rows else f'"expiresInMinutes": {start.minutes}'
    # Clearing the faults releases the call before the delay is over.
    azure.plant_fault("acs", start.race.call.acs, "delay", seconds=4, about=about)
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(start.request)
        wait_until(lambda: not azure.list_faults())
        act()
        azure.clear_faults()
        return response.result()


@pytest.fixture(scope="module")
def races() -> Iterator[Races]:
    with (
        own_azure({"TOKEN_LIFETIME_MINUTES": "1440"}) as world,
        Service(world.settings | {"PUBLIC_URL": world.service.url}) as other,
    ):
        admin = Admin(world.new_person(roles=[ROLE]).signed_in().at(other.url))
        assert admin.csrf
        starts = [prepare(world, admin, race, minutes) for minutes, race in enumerate(RACES, start=100)]
        world.storage.wait_until_quiet()
        results = {start.race: run(world, start) for start in starts}
        yield Races(world=world, results=results, admins=(admin, world.new_admin()))


def is_valid(races: Races, token: str) -> bool:
    return races.world.azure.check_token(token)["valid"] is True


@pytest.mark.parametrize("race", RACES, ids=str)
def test_race_leaves_one_consistent_state(races: Races, record_cell: RecordCell, race: Race) -> None:
    result, world = races.results[race], races.world
    person, earlier_token = result.start.person, result.start.earlier_token
    record_cell(TABLE, f"{race.request}, {race.name}", race.action, str(result.response.status_code))
    rows, sessions = world.list_rows(person), world.list_sessions(person)
    assert result.action_response.status_code in (200, 204, 404), result.action_response.text
    assert result.response.status_code in (200, 302, 401, 403), result.response.text
    assert len(rows) <= 1
    given = {token for token in (result.token, earlier_token) if token}
    match race.action:
        case "block":
            assert rows[0]["Blocked"] is True
            assert sessions == []
            # A later sweep revokes tokens issued while the block was being set.
            wait_until(lambda: not any(is_valid(races, token) for token in given), seconds=SWEEP_SECONDS)
        case "delete" | "erase":
            if race.request != "bearer token" or race.name == "issue":
                assert rows == []  # a bearer token outlives the session, so its request may create a new row
            assert race.request == "sign-in" or sessions == []
            assert not earlier_token or not is_valid(races, earlier_token)
        case "revoke":
            assert not earlier_token or not is_valid(races, earlier_token)
        case "sign-out":
            assert race.request == "sign-in" or sessions == []
    if rows and rows[0]["AcsUserId"]:
        assert rows[0]["AcsUserId"] in world.azure.list_identities()
    if result.token is not None and is_valid(races, result.token):
        assert rows[0]["AcsUserId"] == result.response.json()["user"]["communicationUserId"]


def test_concurrent_administrators_and_users_leave_consistent_state(races: Races) -> None:
    users = [races.world.new_user() for _ in range(USERS)]
    headers = {user: bearer(races.world.azure, user) for user in users}
    actions = ("block", "unblock", "delete", "block", "unblock", "revoke")

    def administrate(admin: Admin, turn: int) -> None:
        for number in range(USERS * len(actions)):
            user = users[(number + turn) % USERS]
            response = admin.act("api", user, actions[(number * (2 * turn + 1)) % len(actions)])
            assert response.status_code in (200, 204, 404), response.text

    def request_tokens(user: Person) -> None:
        for number in range(USERS * len(actions)):
            response = post_token(user.at(races.admins[number % 2].person.url), headers[user])
            assert response.status_code in (200, 401, 403), response.text

    administrating = [partial(administrate, admin, turn) for turn, admin in enumerate(races.admins)]
    run_concurrently([*administrating, *(partial(request_tokens, user) for user in users)])
    for user in users:
        rows = races.world.list_rows(user)
        assert len(rows) <= 1
        response = post_token(user, headers[user])
        if rows and rows[0]["Blocked"]:
            assert response.status_code == 403
        else:
            assert response.json()["user"]["communicationUserId"] == races.world.identity_of(user)
            assert is_valid(races, response.json()["token"])


def test_races_leave_no_orphaned_identity(races: Races) -> None:
    wait_until(lambda: not find_orphans(races.world.azure, races.world.tables))
