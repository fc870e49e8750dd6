"""Holds people at boundaries between upstream calls, kills the service, and starts it again.

At each boundary stand two: one makes a request after the crash, the other is left to `users repair`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import requests

from tests.support.commands import repair
from tests.support.desk import Desk, bearer, call
from tests.support.former_resource import give_former_identity
from tests.support.identity_rows import get_identity
from tests.support.own_azure import OwnAzure
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import ROOT, Service
from tests.support.storage_proxy import Fault
from tests.support.together import run_together, wait_until

Action = Literal["first token", "move", "block", "unblock", "delete", "erase"]


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Where an action is cut: before a call, or `after` it is done. `also`: what that call has in its body.

    `cut` tells that the action has begun to take effect by then. `orphan` says that the contract allows
    the loss of an identity here. `answered`: the answer has left before. `lost_race`: at the deletion
    after one. `of_session`: the call is about the user's sessions.
    """

    action: Action
    name: str
    method: str = ""
    table: str = ""
    also: str = ""
    skip: int = 0
    acs: str = ""
    after: bool = False
    cut: bool = True
    orphan: bool = False
    answered: bool = False
    lost_race: bool = False
    of_session: bool = False

    def __str__(self) -> str:
        """As it stands in the table."""
        return f"{self.action}: {self.name}"


@dataclass(frozen=True, kw_only=True)
class Victim:
    """Somebody at a boundary. `identity` and `token` are what they had before, if anything.

    `minutes` is the lifetime that their first token is to have: it tells their create from others'.
    """

    boundary: Boundary
    person: Person
    bearer: Mapping[str, str]
    act: Callable[[], requests.Response]
    minutes: int
    identity: str = ""
    token: str = ""

    def try_to_act(self) -> requests.Response | None:
        """Do what is cut short; None where the service died over it."""
        try:
            return self.act()
        except requests.ConnectionError:
            return None


@dataclass(frozen=True, kw_only=True)
class Crash:
    """What came of it. The first of the victims at a boundary makes the next request, the other does not.

    `during` is the answer to what was cut short, `after` to the next token request (by bearer), `cookie` the
    status that the browser's session then had.
    """

    victims: dict[Boundary, tuple[Victim, Victim]]
    during: dict[Boundary, requests.Response | None]
    after: dict[Boundary, requests.Response]
    cookie: dict[Boundary, int]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where crashes happen: everybody signs in at `doomed`; `world.service` lives on."""

    world: OwnAzure
    doomed: Service
    desk: Desk

    def crash(self, boundaries: Sequence[Boundary]) -> Crash:
        """Hold everybody, kill the service, start it again, and let one at each boundary ask again."""
        both = [boundary for boundary in boundaries for _ in range(2)]
        arrivals = run_together(
            [partial(self._arrive, boundary, minutes) for minutes, boundary in enumerate(both, start=100)]
        )
        victims = dict(zip(boundaries, zip(arrivals[::2], arrivals[1::2], strict=True), strict=True))
        with ThreadPoolExecutor(len(arrivals)) as pool:
            held = [self._hold(victim) for victim in arrivals]
            acting = [pool.submit(victim.try_to_act) for victim in arrivals]
            wait_until(lambda: not [fault for fault in held if fault.times] + self.world.azure.list_faults())
            wait_until(lambda: all(fault.committed for fault in held if fault.kind == "hang-after-commit"))
            self.doomed.kill()
            during = [future.result() for future in acting]
        self.world.azure.clear_faults()
        self.world.storage.clear()
        self.doomed.start()
        askers = {boundary: pair[0] for boundary, pair in victims.items()}
        return Crash(
            victims=victims,
            during=dict(zip(boundaries, during[::2], strict=True)),
            cookie={
                boundary: victim.person.get("/api/me").status_code for boundary, victim in askers.items()
            },
            after={boundary: ask_for_token(victim) for boundary, victim in askers.items()},
        )

    def repair(self, *, dry_run: bool) -> dict[str, set[str]]:
        """Run the command; return the kinds of its findings by user."""
        found: dict[str, set[str]] = {}
        for finding in repair(self.doomed.env, dry_run=dry_run):
            found.setdefault(finding["user"], set()).add(finding["kind"])
        return found

    def _arrive(self, boundary: Boundary, minutes: int) -> Victim:
        person = self.world.new_person().at(self.doomed.url)
        assert person.sign_in().status_code == 302
        headers, csrf = bearer(self.world.azure, person), person.csrf_headers()
        identity = token = ""
        if boundary.action != "first token":
            token = person.token(csrf=csrf).json()["token"]
            wait_until(
                lambda: all(row.get("TokenNotedAt") for row in list_sessions(self.world.tables, person))
            )
            self.world.storage.wait_until_quiet()
            identity = get_identity(self.world.tables, person)
        match boundary.action:
            case "move":
                identity = give_former_identity(self.world.tables, person)
            case "unblock":
                self.desk.do("api", person, "block")
                assert person.sign_in().status_code == 403
        acts: dict[Action, Callable[[], requests.Response]] = {
            "first token": partial(person.token, {"expiresInMinutes": minutes}, csrf=csrf),
            "move": partial(ask_by_bearer, person, headers, {"expiresInMinutes": minutes}),
            "erase": partial(person.http.delete, f"{person.url}/api/me", headers=csrf, timeout=30),
        }
        act = acts.get(boundary.action) or partial(self.desk.act, "api", person, boundary.action)
        return Victim(
            boundary=boundary,
            person=person,
            bearer=headers,
            act=act,
            minutes=minutes,
            identity=identity,
            token=token,
        )

    def _hold(self, victim: Victim) -> Fault:
        boundary = victim.boundary
        if boundary.acs:
            kind = "fail-after-commit" if boundary.after else "hang"
            about = f'"expiresInMinutes": {victim.minutes}' if boundary.acs == "create" else victim.identity
            self.world.azure.plant_fault("acs", boundary.acs, kind, then="hang", about=about)
            return Fault(kind="hang", times=0)
        about = victim.person.account.object_id
        if boundary.table == "ledger" and victim.identity:
            about = victim.identity.partition("_")[2]
        if boundary.table == "sessions" or boundary.of_session:
            about = list_sessions(self.world.tables, victim.person)[0]["PartitionKey"]
        fault = Fault(
            kind="hang-after-commit" if boundary.after else "hang",
            method=boundary.method,
            table=boundary.table,
            about=about,
            also=boundary.also,
            skip=boundary.skip,
            times=1,
        )
        if boundary.lost_race:
            # Right before their insert somebody else is first, and they are held at what they then tidy up.
            rival = victim.person.at(self.world.service.url)
            fault.kind, fault.action = "signal", partial(rival.token, csrf=rival.csrf_headers())
            self.world.azure.plant_fault("acs", "delete", "hang")
        self.world.storage.plant(fault)
        return fault


def ask_for_token(victim: Victim) -> requests.Response:
    """The user's next request, with a bearer token: it does not depend on what became of the session."""
    return ask_by_bearer(victim.person, victim.bearer)


def ask_by_bearer(
    person: Person, headers: Mapping[str, str], body: Mapping[str, object] | None = None
) -> requests.Response:
    return call("POST", f"{person.url}/api/token", headers=headers, json=body)


def kill_command(own: OwnAzure, fault: Fault, arguments: Sequence[str]) -> bool:
    """Kill a command on users when it meets the fault, which hangs; False where it ends by itself."""
    own.storage.plant(fault)
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments],
        cwd=ROOT,
        env=os.environ | own.service.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def is_held() -> bool:
        return fault.committed or (fault.kind == "hang" and not fault.times)

    try:
        wait_until(lambda: process.poll() is not None or is_held())
        if process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        return True
    finally:
        process.wait(30)
        own.storage.clear()
