"""Strangers: hostile sockets, forged tokens while Entra ID is silent, and a probe that must not notice."""

import time

import requests

from tests.soak.scene import Scene, chance_of
from tests.support.hostile_sockets import KINDS, attack
from tests.support.person import Person
from tests.support.tokens import make_token

SOCKETS, ATTACK_SECONDS, FORGERY_PAUSE, PROBE_PAUSE = 40, (5.0, 15.0), 0.2, 0.3
SILENT_OPERATIONS, SILENT_CALLS = ("discovery", "keys"), 20


class Attacker:
    """Attacks one of the services with a few kinds of hostile sockets at a time."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "sockets")

    def work(self) -> None:
        while not self._scene.stop.is_set():
            kinds = self._chance.sample([*KINDS], 3)
            with attack(self._chance.choice(self._scene.services).port, *kinds, count=SOCKETS):
                for kind in kinds:
                    self._scene.tally.attacks[kind] += 1
                self._scene.stop.wait(self._chance.uniform(*ATTACK_SECONDS))


class Forger:
    """Sends forged bearer tokens while Entra ID's discovery and keys hang."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "forgeries")

    def work(self) -> None:
        stranger = Person(
            self._scene.world.azure, self._scene.services[0].url, self._scene.administrator.account
        )
        headers = {"Authorization": f"Bearer {make_token(3600)}"}
        while not self._scene.stop.wait(self._chance.expovariate(1 / FORGERY_PAUSE)):
            if self._chance.random() < 0.02:
                operation = self._chance.choice(SILENT_OPERATIONS)
                self._scene.world.azure.plant_fault("entra", operation, "hang", times=SILENT_CALLS)
                self._scene.tally.attacks["silent Entra ID"] += 1
            response = self._scene.send(self._chance, stranger, "forgery", "GET", "/api/me", headers=headers)
            if response is not None and response.status_code not in (401, 503):
                self._scene.tally.violate(f"a forged token gets {response.status_code}")


class Probe:
    """Requests /healthz from a service that runs, as App Service does."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene, self._chance = scene, chance_of(seed, "probe")

    def work(self) -> None:
        while not self._scene.stop.wait(PROBE_PAUSE):
            service = self._chance.choice(self._scene.services)
            process, began = service.process, time.monotonic()
            try:
                requests.get(f"{service.url}/healthz", timeout=60)
            except requests.RequestException:
                continue
            if process is service.process and service not in self._scene.starting:
                self._scene.tally.probed(time.monotonic() - began)
