"""Holds users' actions at boundaries between upstream calls, kills the service, and starts it again."""

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import requests

from tests.support.admin_client import Admin, bearer, call
from tests.support.commands import repair, start_users_command
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.own_azure import OwnAzure
from tests.support.person import Person
from tests.support.rows import give_former_identity
from tests.support.service import Service
from tests.support.storage_proxy import Fault, Kind
from tests.support.upstream_calls import UpstreamCall, fail_call

Action = Literal["first token", "move", "block", "unblock", "delete", "erase"]


@dataclass(frozen=True)
class Boundary:
    """Where an action is interrupted: before a call, or `after` its commit."""

    action: Action
    name: str
    call: UpstreamCall
    after: bool = False
    begun: bool = True  # the action has begun to take effect
    orphan: bool = False  # the contract allows the loss of an identity here
    responded: bool = False  # the response is sent before the boundary
    lost_race: bool = False  # the call is the deletion after a lost race
    of_session: bool = False  # the call is about the user's sessions

    def __str__(self) -> str:
        return f"{self.action}: {self.name}"


@dataclass(kw_only=True)
class HeldUser:
    """A user whose action is held. `identity` and `token` are from before the action."""

    boundary: Boundary
    person: Person
    bearer: Mapping[str, str]
    csrf: dict[str, str]
    minutes: int  # the lifetime of their first token, which identifies their create
    identity: str = ""
    token: str = ""
    fault: Fault | None = None

    def request_token(self, body: object = None) -> requests.Response:
        """Request a token by bearer token, independently of the session."""
        return call("POST", f"{self.person.url}/api/token", headers=self.bearer, json=body)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The crash at a boundary: `returning` makes the next request, `absent` does not."""

    returning: HeldUser
    absent: HeldUser
    interrupted: requests.Response | None  # to the action
    response: requests.Response  # to the next token request
    session_status: int  # of GET /api/me with the cookie from before


@dataclass(frozen=True, kw_only=True)
class CrashSite:
    """A service that is killed; `world.service` keeps running."""

    world: OwnAzure
    service: Service
    admin: Admin

    def crash(self, boundaries: Sequence[Boundary]) -> dict[Boundary, Outcome]:
        """Hold all actions, kill the service, start it again; then one user at each boundary returns."""
        pairs = enumerate((boundary for boundary in boundaries for _ in range(2)), start=100)
        users = run_concurrently([partial(self._sign_in, boundary, minutes) for minutes, boundary in pairs])
        self._set_up(users)
        with ThreadPoolExecutor(len(users)) as pool:
            for user in users:
                user.fault = self._hold(user)
            acting = [pool.submit(self._try_to_act, user) for user in users]
            self._wait_until_held(users)
            self.service.kill()
            interrupted = [future.result() for future in acting]
        self.world.azure.clear_faults()
        self.world.storage.clear()
        self.service.start()
        blocked = [user.person for user in users if user.boundary.action == "block" and user.boundary.begun]
        for person in blocked:  # the new process finishes the blocks
            wait_until(partial(self._is_block_finished, person))
        return {
            user.boundary: Outcome(
                returning=user,
                absent=absent,
                interrupted=response,
                session_status=user.person.get("/api/me").status_code,
                response=user.request_token(),
            )
            for user, absent, response in zip(users[::2], users[1::2], interrupted[::2], strict=True)
        }

    def repair(self, *, dry_run: bool) -> dict[str, set[str]]:
        """Run `users repair`; return the kinds of its findings by user."""
        found: dict[str, set[str]] = {}
        for finding in repair(self.service.env, dry_run=dry_run):
            found.setdefault(finding["user"], set()).add(finding["kind"])
        return found

    def _sign_in(self, boundary: Boundary, minutes: int) -> HeldUser:
        person = self.world.new_person().at(self.service.url).signed_in()
        headers, csrf = bearer(self.world.azure, person), person.csrf_headers()
        user = HeldUser(boundary=boundary, person=person, bearer=headers, csrf=csrf, minutes=minutes)
        if boundary.action != "first token":
            user.token = person.get_token()
        return user

    def _set_up(self, users: Sequence[HeldUser]) -> None:
        """Wait for the background tasks of the first tokens, then prepare users for their actions."""
        with_identity = [user for user in users if user.token]
        for user in with_identity:
            sessions = partial(self.world.list_sessions, user.person)
            wait_until(lambda sessions=sessions: all(row.get("TokenNotedAt") for row in sessions()))  # type: ignore[misc]
        self.world.storage.wait_until_quiet()
        for user in with_identity:
            user.identity = self.world.identity_of(user.person)
            if user.boundary.action == "move":
                user.identity = give_former_identity(self.world.tables, user.person)
            elif user.boundary.action == "unblock":
                self.admin.do("api", user.person, "block")
                assert user.person.sign_in().status_code == 403

    def _is_block_finished(self, person: Person) -> bool:
        return not self.world.list_rows(person)[0]["Blocking"]

    def _hold(self, user: HeldUser) -> Fault | None:
        boundary, about = user.boundary, user.person.account.object_id
        if boundary.call.acs == "create" or (boundary.call.acs and not user.identity):
            about = f'"expiresInMinutes": {user.minutes}'
        elif boundary.call.acs:
            about = user.identity
        elif boundary.call.table == "ledger" and user.identity:
            about = user.identity.partition("_")[2]
        elif boundary.call.table == "sessions" or boundary.of_session:
            about = self.world.list_sessions(user.person)[0]["PartitionKey"]
        if boundary.lost_race:
            # Another request of the user wins the race right before their insert; the clean-up is held.
            rival = user.person.at(self.world.service.url)
            action = partial(rival.token, csrf=rival.csrf_headers())
            self.world.azure.plant_fault("acs", "delete", "hang")
            return fail_call(self.world, boundary.call, "signal", about=about, times=1, action=action)
        kind: Kind = "hang-after-commit" if boundary.after else "hang"
        return fail_call(self.world, boundary.call, kind, about=about, times=1)

    def _wait_until_held(self, users: Sequence[HeldUser]) -> None:
        def list_pending() -> list[str]:
            pending = [str(user.boundary) for user in users if user.fault and not is_held(user.fault)]
            return pending + [str(fault["operation"]) for fault in self.world.azure.list_faults()]

        with contextlib.suppress(AssertionError):
            wait_until(lambda: not list_pending())
        assert list_pending() == []

    def _try_to_act(self, user: HeldUser) -> requests.Response | None:
        """Start the action; return None if the service is killed before it responds."""
        name, body = user.boundary.action, {"expiresInMinutes": user.minutes}
        actions: dict[Action, Callable[[], requests.Response]] = {
            "first token": partial(user.person.token, body, csrf=user.csrf),
            "move": partial(user.request_token, body),
            "erase": partial(user.person.erase, user.csrf),
        }
        try:
            return actions.get(name, partial(self.admin.act, "api", user.person, name))()
        except requests.ConnectionError:
            return None


def is_held(fault: Fault) -> bool:
    """Whether a call has reached the fault, and is committed if the fault comes after the commit."""
    return fault.committed if fault.kind == "hang-after-commit" else not fault.times


def kill_command(own: OwnAzure, fault: Fault, arguments: Sequence[str]) -> bool:
    """Kill a `users` command when it hangs at the fault; return False if it ends by itself."""
    own.storage.plant(fault)
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
        process = start_users_command(own.service.env, *arguments, output=Path(folder))
        try:
            wait_until(lambda: process.exitcode is not None or is_held(fault))
            if process.exitcode is not None:
                return False
            process.kill()
            return True
        finally:
            process.join(30)
            own.storage.clear()
