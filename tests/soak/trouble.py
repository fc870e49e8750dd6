"""Disturbances: an administrator, faults in all three upstreams, and process kills."""

import time

import requests

from tests.soak.scene import Member, Scene, chance_of
from tests.soak.users import delete
from tests.support.commands import CommandFailed, repair
from tests.support.storage_proxy import Fault

ADMINISTRATOR_PAUSE, FAULT_PAUSE = 1.0, 0.8
KILL_PAUSES = (5.0, 15.0)
REPAIR_SECONDS = 60.0
FAULTS_KEPT = 12
"""The maximum; beyond it, the oldest is removed."""

STATUSES, STATUSES_AFTER_COMMIT = (400, 401, 403, 429, 500, 503), (500, 503)
"""Without 404, 409 and 412: Table Storage never wrongly reports a row as missing or changed."""
STORAGE_CALLS = (
    *(("GET", table) for table in ("sessions", "identities", "userindex", "audit", "ledger")),
    *(("POST", "sessions"), ("POST", "identities"), ("PATCH", "identities"), ("PATCH", "sessions")),
    *(("PUT", "audit"), ("PUT", "ledger"), ("POST", "ledger"), ("POST", "$batch")),
    *(("DELETE", "sessions"), ("DELETE", "identities")),
)
STORAGE_KINDS = ("status", "reset", "half", "drip", "hang", "delay", "fail-after-commit", "hang-after-commit")
KINDS = ("status", "status", "hang", "reset", "delay", "half", "drip", "fail-after-commit")
OPERATIONS = {"acs": ("create", "issue", "revoke", "delete"), "entra": ("discovery", "keys", "token")}


class Administrator:
    """Blocks, unblocks, revokes, signs out, deletes and searches; repairs occasionally."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "administrator")
        self._csrf: dict[str, str] = {}

    def work(self) -> None:
        """Act until the soak ends."""
        repaired_at = time.monotonic()
        while not self._scene.stop.wait(self._chance.expovariate(1 / ADMINISTRATOR_PAUSE)):
            self._csrf = self._csrf or self._scene.fetch_csrf(self._chance, self._scene.administrator)
            if not self._csrf:
                continue
            member = self._chance.choice(self._scene.members)
            blocked = [other for other in self._scene.members if other.block_began is not None]
            if len(blocked) > len(self._scene.members) // 5:
                self._unblock(self._chance.choice(blocked))
            elif time.monotonic() - repaired_at > REPAIR_SECONDS:
                repaired_at = time.monotonic()
                self._repair()
            else:
                actions = [self._block, self._block, self._unblock, self._delete, self._revoke, self._search]
                self._chance.choice(actions)(member)

    def _act(self, member: Member, action: str) -> requests.Response | None:
        path = f"/api/admin/users/{member.key}/{action}"
        response = self._scene.send(
            self._chance, self._scene.administrator, f"admin {action}", "POST", path, headers=self._csrf
        )
        if response is not None and response.status_code == 401:
            self._csrf = {}
        return response

    def _block(self, member: Member) -> None:
        if member.block_began is None:
            member.block_began = time.monotonic()
        response = self._act(member, "block")
        if response is not None and response.status_code == 200:
            member.blocked_at = time.monotonic()

    def _unblock(self, member: Member) -> None:
        member.blocked_at = None
        response = self._act(member, "unblock")
        if response is not None and response.status_code in (200, 404):
            member.block_began = None

    def _delete(self, member: Member) -> None:
        delete(member, lambda: self._act(member, "delete"))

    def _revoke(self, member: Member) -> None:
        self._act(member, self._chance.choice(["revoke", "sign-out"]))

    def _search(self, member: Member) -> None:
        path = f"/api/admin/users?q={member.person.account.name}"
        self._scene.send(self._chance, self._scene.administrator, "admin search", "GET", path)

    def _repair(self) -> None:
        try:
            repair(direct_settings(self._scene))
            self._scene.tally.actions["users repair"] += 1
        except CommandFailed:  # by a fault; a later run completes it
            self._scene.tally.actions["users repair, cut short"] += 1


def direct_settings(scene: Scene) -> dict[str, str]:
    """Settings of a service that bypasses the storage proxy."""
    name = "TABLE_STORAGE_CONNECTION_STRING"
    return scene.services[0].env | {name: scene.world.azure.env[name]}


class Breaker:
    """Plants faults at random intervals."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "faults")
        self._planted: list[Fault] = []

    def work(self) -> None:
        while not self._scene.stop.wait(self._chance.expovariate(1 / FAULT_PAUSE)):
            storage, others = self._break_storage, self._break_others
            chances = [storage, storage, others, others, self._hide_identities, self._swap_resources]
            self._scene.tally.faults[self._chance.choice(chances)()] += 1

    def _hide_identities(self) -> str:
        """Let Communication Services report identities as missing, with or without its own error code."""
        times, code = self._chance.choice([1, 3, 9]), self._chance.choice(["IdentityNotFound", None])
        self._scene.world.azure.plant_fault("acs", "issue", "status", times=times, status=404, code=code)
        return "acs 404"

    def _swap_resources(self) -> str:
        """Let another resource respond for a moment."""
        self._scene.world.azure.swap_resources()
        self._scene.stop.wait(self._chance.uniform(0.1, 1.0))
        self._scene.world.azure.swap_resources()
        return "acs other resource"

    def _break_storage(self) -> str:
        method, table = self._chance.choice(STORAGE_CALLS)
        kind = self._chance.choice(STORAGE_KINDS)
        fault = Fault(
            kind=kind,  # type: ignore[arg-type]
            method=method,
            table=table,
            times=self._chance.choice([1, 1, 2, 5]),
            status=self._status(kind),
            retry_after=self._chance.choice([None, "1"]),
            seconds=self._chance.choice([0.3, 1.0, 3.0]),
        )
        self._scene.world.storage.plant(fault)
        self._planted.append(fault)
        if len(self._planted) > FAULTS_KEPT:
            self._scene.world.storage.remove(self._planted.pop(0))
        return f"storage {kind}"

    def _break_others(self) -> str:
        upstream, kind = self._chance.choice([*OPERATIONS]), self._chance.choice(KINDS)
        if len(self._scene.world.azure.list_faults()) > FAULTS_KEPT:
            self._scene.world.azure.clear_faults()
        self._scene.world.azure.plant_fault(
            upstream,
            self._chance.choice(OPERATIONS[upstream]),
            kind,
            times=self._chance.choice([1, 1, 3]),
            status=self._status(kind),
            retryAfter=self._chance.choice([None, "1"]),
            seconds=self._chance.choice([0.3, 1.0]),
            then=self._chance.choice(["status", "reset", "hang"]),
        )
        return f"{upstream} {kind}"

    def _status(self, kind: str) -> int:
        return self._chance.choice(STATUSES_AFTER_COMMIT if kind == "fail-after-commit" else STATUSES)


class Killer:
    """Kills and restarts one of the two services at random intervals."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "kills")

    def work(self) -> None:
        while not self._scene.stop.wait(self._chance.uniform(*KILL_PAUSES)):
            service = self._chance.choice(self._scene.services)
            self._scene.starting.add(service)
            service.kill()
            self._scene.tally.kills += 1
            self._scene.kill_times.append(time.monotonic())
            time.sleep(self._chance.uniform(0, 1))
            service.start()
            self._scene.starting.remove(service)
