"""What makes it hard: an administrator, faults in all three upstreams, and processes that are killed."""

import time

import requests

from tests.soak.scene import Member, Scene, chance_of
from tests.soak.users import deleting
from tests.support.commands import CommandFailed, repair
from tests.support.storage_proxy import Fault

ADMINISTRATOR_PAUSE, FAULT_PAUSE = 1.0, 0.8
KILL_PAUSES = (5.0, 15.0)
REPAIR_SECONDS = 60.0
FAULTS_KEPT = 12
"""Older ones that nobody has met are taken back."""

STATUSES, STATUSES_AFTER_COMMIT = (400, 401, 403, 429, 500, 503), (500, 503)
"""None by which the storage would say what is not so: that something is gone or changed, or was not done."""
STORAGE_CALLS = (
    *(("GET", table) for table in ("sessions", "identities", "userindex", "audit", "ledger")),
    *(("POST", "sessions"), ("POST", "identities"), ("PATCH", "identities"), ("PATCH", "sessions")),
    *(("PUT", "audit"), ("PUT", "ledger"), ("POST", "ledger"), ("POST", "$batch")),
    *(("DELETE", "sessions"), ("DELETE", "identities")),
)
STORAGE_KINDS = ("status", "reset", "half", "drip", "hang", "delay", "fail-after-commit", "hang-after-commit")
KINDS = ("status", "status", "hang", "reset", "delay", "half", "drip", "fail-after-commit")
OPERATIONS = {
    "acs": ("create", "issue", "revoke", "delete"),
    "entra": ("discovery", "keys", "token"),
}


class Administrator:
    """Blocks, unblocks, revokes, signs out, deletes and searches; repairs now and then."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "administrator")
        self._csrf: dict[str, str] = {}

    def work(self) -> None:
        """Act until the scene is over; then nobody is left blocked who should not be."""
        repaired_at = time.monotonic()
        while not self._scene.stop.wait(self._chance.expovariate(1 / ADMINISTRATOR_PAUSE)):
            if not self._csrf and not self._enter():
                continue
            member = self._chance.choice(self._scene.members)
            blocked = [other for other in self._scene.members if other.block_began is not None]
            if len(blocked) > len(self._scene.members) // 5:
                self._unblock(self._chance.choice(blocked))
            elif time.monotonic() - repaired_at > REPAIR_SECONDS:
                repaired_at = time.monotonic()
                self._repair()
            else:
                self._chance.choice(
                    [self._block, self._block, self._unblock, self._delete, self._revoke, self._look]
                )(member)

    def _enter(self) -> bool:
        who = self._scene.administrator
        if self._scene.sign_in(self._chance, who):
            answer = self._scene.send(self._chance, who, "me", "GET", "/api/me")
            if answer is not None and answer.status_code == 200:
                self._csrf = {"X-CSRFToken": answer.json()["csrfToken"]}
        return bool(self._csrf)

    def _act(self, member: Member, action: str) -> requests.Response | None:
        path = f"/api/admin/users/{member.key}/{action}"
        answer = self._scene.send(
            self._chance, self._scene.administrator, f"admin {action}", "POST", path, headers=self._csrf
        )
        if answer is not None and answer.status_code == 401:
            self._csrf = {}
        return answer

    def _block(self, member: Member) -> None:
        if member.block_began is None:
            member.block_began = time.monotonic()
        answer = self._act(member, "block")
        if answer is not None and answer.status_code == 200:
            member.blocked_at = time.monotonic()

    def _unblock(self, member: Member) -> None:
        member.blocked_at = None
        answer = self._act(member, "unblock")
        if answer is not None and answer.status_code in (200, 404):
            member.block_began = None

    def _delete(self, member: Member) -> None:
        with deleting(member) as outcome:
            answer = self._act(member, "delete")
            outcome.append(answer is not None and answer.status_code == 204)

    def _revoke(self, member: Member) -> None:
        self._act(member, self._chance.choice(["revoke", "sign-out"]))

    def _look(self, member: Member) -> None:
        path = f"/api/admin/users?q={member.person.account.name}"
        self._scene.send(self._chance, self._scene.administrator, "admin search", "GET", path)

    def _repair(self) -> None:
        try:
            repair(direct_settings(self._scene))
            self._scene.tally.actions["users repair"] += 1
        except CommandFailed:  # a fault cut it short: it is run again some time
            self._scene.tally.actions["users repair, cut short"] += 1


def direct_settings(scene: Scene) -> dict[str, str]:
    """Settings of a service that reaches its storage past the proxy."""
    name = "TABLE_STORAGE_CONNECTION_STRING"
    return scene.services[0].env | {name: scene.world.azure.env[name]}


class Breaker:
    """Plants a fault now and then."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "faults")
        self._planted: list[Fault] = []

    def work(self) -> None:
        while not self._scene.stop.wait(self._chance.expovariate(1 / FAULT_PAUSE)):
            upstream = self._chance.choice(["storage", "storage", "acs", "entra", "identities", "resource"])
            match upstream:
                case "storage":
                    self._break_storage()
                case "identities":
                    self._hide_identities()
                case "resource":
                    self._swap_resources()
                case _:
                    self._break_other(upstream)

    def _hide_identities(self) -> None:
        """Communication Services says of a few identities that they do not exist, with its own code or
        without."""
        self._scene.world.azure.plant_fault(
            "acs",
            "issue",
            "status",
            times=self._chance.choice([1, 3, 9]),
            status=404,
            code=self._chance.choice(["IdentityNotFound", None]),
        )
        self._scene.tally.broke("acs 404")

    def _swap_resources(self) -> None:
        """Another resource answers for a moment."""
        self._scene.world.azure.swap_resources()
        self._scene.stop.wait(self._chance.uniform(0.1, 1.0))
        self._scene.world.azure.swap_resources()
        self._scene.tally.broke("acs other resource")

    def _break_storage(self) -> None:
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
        self._scene.tally.broke(f"storage {kind}")

    def _break_other(self, upstream: str) -> None:
        kind = self._chance.choice(KINDS)
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
        self._scene.tally.broke(f"{upstream} {kind}")

    def _status(self, kind: str) -> int:
        return self._chance.choice(STATUSES_AFTER_COMMIT if kind == "fail-after-commit" else STATUSES)


class Killer:
    """Kills one of the two services now and then, and starts it again."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "kills")

    def work(self) -> None:
        while not self._scene.stop.wait(self._chance.uniform(*KILL_PAUSES)):
            service = self._chance.choice(self._scene.services)
            service.kill()
            self._scene.tally.killed()
            self._scene.kill_times.append(time.monotonic())
            time.sleep(self._chance.uniform(0, 1))
            service.start()
