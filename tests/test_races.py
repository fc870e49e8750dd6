"""What shuts a user out races what lets them in, on two processes: held at each call, in every order.

The request runs at one process. Right before one of its calls the action happens at the other, whole; then
the call goes its way. A block revokes once more when every such request is over: that is waited for once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pytest
import requests

from tests.support.desk import ROLE, Desk, bearer, call
from tests.support.identity_rows import list_identity_rows
from tests.support.ledger_rows import find_orphans
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.report import NoteCell
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault
from tests.support.together import run_together, wait_until

pytestmark = pytest.mark.timeout(300)  # for all races together, which the first test waits for

TABLE = "request, held right before"
SWEEP_SECONDS = 20.0
CROWD = 4

Request = Literal["sign-in", "first token", "warm token", "bearer token"]
Shutting = Literal["block", "delete", "revoke", "sign-out", "erase"]
SHUTTINGS: tuple[Shutting, ...] = ("block", "delete", "revoke", "sign-out", "erase")


@dataclass(frozen=True, kw_only=True)
class Race:
    """A request that is held right before one of its calls, and what happens meanwhile.

    `acs` is the operation of Communication Services that is held, else it is a call to the storage.
    """

    request: Request
    call: str
    shutting: Shutting
    method: str = ""
    table: str = ""
    skip: int = 0
    acs: str = ""

    def __str__(self) -> str:
        """As pytest shows it."""
        return f"{self.request}, {self.call}: {self.shutting}"


HELD: dict[tuple[Request, str], dict[str, object]] = {
    ("sign-in", "session insert"): {"method": "POST", "table": "sessions"},
    ("sign-in", "block read"): {"method": "GET", "table": "identities"},
    ("first token", "session read"): {"method": "GET", "table": "sessions"},
    ("first token", "row read"): {"method": "GET", "table": "identities"},
    ("first token", "create"): {"acs": "create"},
    ("first token", "insert"): {"method": "POST", "table": "identities"},
    ("first token", "last look"): {"method": "GET", "table": "sessions", "skip": 1},
    ("warm token", "session read"): {"method": "GET", "table": "sessions"},
    ("warm token", "issue"): {"acs": "issue"},
    ("bearer token", "row read"): {"method": "GET", "table": "identities"},
    ("bearer token", "issue"): {"acs": "issue"},
}
RACES = [
    Race(request=request, call=name, shutting=shutting, **held)  # type: ignore[arg-type]
    for (request, name), held in HELD.items()
    for shutting in SHUTTINGS
]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a race went: the answers to the request and to the action, and what had been given before."""

    person: Person
    answer: requests.Response
    shut: requests.Response
    earlier_token: str

    @property
    def token(self) -> str | None:
        """The token that the request got, if it did."""
        good = self.answer.status_code == 200
        return str(self.answer.json()["token"]) if good else None


@dataclass(frozen=True, kw_only=True)
class Races:
    """All races, run. `desks`: an administrator at each process."""

    world: OwnAzure
    desks: tuple[Desk, Desk]
    ran: dict[Race, Ran]


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Somebody at the start. `minutes`, the lifetime of a first token, tells their create from others'."""

    race: Race
    person: Person
    minutes: int
    ask: Callable[[], requests.Response]
    shut_out: Callable[[], requests.Response]
    earlier_token: str


class Track:
    """Lines everybody up, and runs one race after the other."""

    def __init__(self, world: OwnAzure, other: Service, desk: Desk) -> None:
        self._world, self._other, self._desk = world, other, desk

    def line_up(self, race: Race, minutes: int) -> Runner:
        """Bring somebody to where the race begins."""
        person, world = self._world.new_person(), self._world
        earlier, headers = "", bearer(world.azure, person)
        callback = person.start_sign_in() if race.request == "sign-in" else ""
        if not callback:
            assert person.sign_in().status_code == 302
        if race.request != "first token":
            earlier = call("POST", f"{person.url}/api/token", headers=headers).json()["token"]
        csrf = {} if callback else person.csrf_headers()
        if race.request == "warm token":
            assert person.token(csrf=csrf).status_code == 200
        asks: dict[Request, Callable[[], requests.Response]] = {
            "sign-in": partial(person.finish_sign_in, callback),
            "first token": partial(person.token, {"expiresInMinutes": minutes}, csrf=csrf),
            "warm token": partial(person.token, csrf=csrf),
            "bearer token": partial(call, "POST", f"{person.url}/api/token", headers=headers),
        }
        if race.shutting == "erase":
            shut_out = partial(call, "DELETE", f"{self._other.url}/api/me", headers=headers)
        else:
            shut_out = partial(self._desk.act, "api", person, race.shutting)
        return Runner(
            race=race,
            person=person,
            minutes=minutes,
            ask=asks[race.request],
            shut_out=shut_out,
            earlier_token=earlier,
        )

    def run(self, runner: Runner) -> Ran:
        shut: list[requests.Response] = []

        def shut_out() -> None:
            shut.append(runner.shut_out())

        answer = (self._held_at_acs if runner.race.acs else self._held)(runner, shut_out)
        return Ran(person=runner.person, answer=answer, shut=shut[0], earlier_token=runner.earlier_token)

    def _held(self, runner: Runner, shut_out: Callable[[], None]) -> requests.Response:
        race, about = runner.race, runner.person.account.object_id
        if race.table == "sessions" and race.method == "GET":
            about = list_sessions(self._world.tables, runner.person)[0]["PartitionKey"]
        fault = Fault(
            kind="signal",
            method=race.method,
            table=race.table,
            about=about,
            skip=race.skip,
            times=1,
            action=shut_out,
        )
        self._world.storage.plant(fault)
        answer = runner.ask()
        assert fault.times == 0
        return answer

    def _held_at_acs(self, runner: Runner, shut_out: Callable[[], None]) -> requests.Response:
        azure, rows = self._world.azure, list_identity_rows(self._world.tables, runner.person)
        about = rows[0]["AcsUserId"] if rows else f'"expiresInMinutes": {runner.minutes}'
        # Clearing the faults lets the call go on, whatever is left of the delay.
        azure.plant_fault("acs", runner.race.acs, "delay", seconds=4, about=about)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(runner.ask)
            wait_until(lambda: not azure.list_faults())
            shut_out()
            azure.clear_faults()
            return asking.result()


@pytest.fixture(scope="module")
def races() -> Iterator[Races]:
    with (
        own_azure({"TOKEN_LIFETIME_MINUTES": "1440"}) as world,
        Service(world.settings | {"PUBLIC_URL": world.service.url}) as other,
    ):
        administrator = world.new_person(roles=[ROLE])
        assert administrator.sign_in().status_code == 302
        desk = Desk(administrator.at(other.url))
        assert desk.csrf
        track = Track(world, other, desk)
        runners = [track.line_up(race, minutes) for minutes, race in enumerate(RACES, start=100)]
        world.storage.wait_until_quiet()
        ran = {runner.race: track.run(runner) for runner in runners}
        yield Races(world=world, ran=ran, desks=(desk, world.new_desk()))


each = pytest.mark.parametrize("race", RACES, ids=str)


def is_good(races: Races, token: str) -> bool:
    return races.world.azure.check_token(token)["valid"] is True


@each
def test_race_leaves_what_the_last_word_was(races: Races, note_cell: NoteCell, race: Race) -> None:
    ran, azure, tables = races.ran[race], races.world.azure, races.world.tables
    held = f"{race.request}, {race.call}"
    note_cell(TABLE, held, race.shutting, str(ran.answer.status_code))
    rows = list_identity_rows(tables, ran.person)
    assert ran.shut.status_code in (200, 204, 404), ran.shut.text
    assert ran.answer.status_code in (200, 302, 401, 403), ran.answer.text
    assert len(rows) <= 1
    given = {token for token in (ran.token, ran.earlier_token) if token}
    match race.shutting:
        case "block":
            assert rows[0]["Blocked"] is True
            assert list_sessions(tables, ran.person) == []
            # What was issued while the block was set is revoked once more, when such requests are over.
            wait_until(lambda: not any(is_good(races, token) for token in given), seconds=SWEEP_SECONDS)
        case "delete" | "erase":
            if race.request != "bearer token" or race.call == "issue":
                assert rows == []  # but for whoever came again, by a token that outlives their session
            if race.request != "sign-in":
                assert list_sessions(tables, ran.person) == []
            assert not ran.earlier_token or not is_good(races, ran.earlier_token)
        case "revoke":
            assert not ran.earlier_token or not is_good(races, ran.earlier_token)
        case "sign-out":
            assert race.request == "sign-in" or list_sessions(tables, ran.person) == []
    if rows and rows[0]["AcsUserId"]:
        assert rows[0]["AcsUserId"] in azure.list_identities()
    if ran.token is not None and is_good(races, ran.token):
        assert rows[0]["AcsUserId"] == ran.answer.json()["user"]["communicationUserId"]


def test_administrators_and_user_at_once_leave_one_state(races: Races) -> None:
    people = [races.world.new_user() for _ in range(CROWD)]
    tokens = [(person, bearer(races.world.azure, person)) for person in people]
    actions: list[Shutting | Literal["unblock"]] = [
        "block",
        "unblock",
        "delete",
        "block",
        "unblock",
        "revoke",
    ]

    def administrate(desk: Desk, turn: int) -> None:
        for number in range(CROWD * len(actions)):
            person = people[(number + turn) % CROWD]
            answer = desk.act("api", person, actions[(number * (2 * turn + 1)) % len(actions)])
            assert answer.status_code in (200, 204, 404), answer.text

    def ask(person: Person, headers: dict[str, str]) -> None:
        for number in range(CROWD * len(actions)):
            url = races.desks[number % 2].person.url
            answer = call("POST", f"{url}/api/token", headers=headers)
            assert answer.status_code in (200, 401, 403), answer.text

    run_together(
        [partial(administrate, desk, turn) for turn, desk in enumerate(races.desks)]
        + [partial(ask, person, headers) for person, headers in tokens]
    )
    for person, headers in tokens:
        rows = list_identity_rows(races.world.tables, person)
        assert len(rows) <= 1
        answer = call("POST", f"{person.url}/api/token", headers=headers)
        if rows and rows[0]["Blocked"]:
            assert answer.status_code == 403
        else:
            (row,) = list_identity_rows(races.world.tables, person)
            assert answer.json()["user"]["communicationUserId"] == row["AcsUserId"]
            assert is_good(races, answer.json()["token"])


def test_races_leave_no_identity_that_nobody_refers_to(races: Races) -> None:
    wait_until(lambda: not find_orphans(races.world.azure, races.world.tables))
