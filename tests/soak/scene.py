"""The local Azure, its storage behind a proxy, two service processes, and the users."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.soak.tally import Tally
from tests.support.admin_client import ROLE
from tests.support.local_azure import LocalAzureError
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.service import Service


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A token, with the start and end times of its request."""

    token: str
    identity: str
    began: float
    ended: float


@dataclass(eq=False)
class Member:
    """A user, with the tokens they got and the actions on them."""

    person: Person
    grants: list[Grant] = field(default_factory=list)
    identity: str = ""
    seen_at: float = 0.0
    deleting: int = 0  # deletions in progress
    deleted_at: float = 0.0  # when the last one ended
    half_deleted: bool = False  # a deletion failed, so it may complete at any time
    block_began: float | None = None  # when the current block was requested
    blocked_at: float | None = None  # when it was confirmed
    ended_cookies: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> str:
        return self.person.key


@dataclass(frozen=True)
class Scene:
    """All participants."""

    world: OwnAzure
    services: tuple[Service, Service]
    members: list[Member]
    administrator: Person
    tally: Tally
    stop: threading.Event = field(default_factory=threading.Event)
    kill_times: list[float] = field(default_factory=list)
    starting: set[Service] = field(default_factory=set)
    """Killed, and not yet running again."""

    def send(
        self, chance: random.Random, user: Person, action: str, method: str, path: str, **options: Any
    ) -> requests.Response | None:
        """Send a request to either service, count it, and return its response, if any."""
        url = chance.choice(self.services).url + path
        begin = time.monotonic()
        try:
            response = user.http.request(method, url, allow_redirects=False, timeout=60, **options)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            self.tally.died(action)
            return None
        seconds = time.monotonic() - begin
        is_problem = response.headers.get("Content-Type") == "application/problem+json"
        code = str(response.json()["code"]) if is_problem else ""
        self.tally.responded(action, response.status_code, seconds, code)
        return response

    def sign_in(self, chance: random.Random, user: Person) -> bool:
        """Sign in; return whether it worked."""
        response = self.send(chance, user, "sign-in", "GET", "/auth/sign-in")
        if response is None or response.status_code != 302:
            return False
        try:
            address = self.world.azure.sign_in(user.http, response.headers["Location"], user.account.username)
        except (LocalAzureError, requests.ConnectionError):
            return False
        path = address.removeprefix(self.services[0].url)
        done = self.send(chance, user, "callback", "GET", path)
        return done is not None and done.status_code == 302

    def fetch_csrf(self, chance: random.Random, user: Person) -> dict[str, str]:
        """Sign in, and return the CSRF header; empty if either request fails."""
        response = self.send(chance, user, "me", "GET", "/api/me") if self.sign_in(chance, user) else None
        if response is None or response.status_code != 200:
            return {}
        return {"X-CSRFToken": response.json()["csrfToken"]}


def chance_of(seed: str, name: str) -> random.Random:
    """Return the random source for one participant's choices, independent of the others."""
    return random.Random(f"{seed} {name}")  # noqa: S311 (not for secrets)


@contextlib.contextmanager
def set_up(users: int, tally: Tally) -> Iterator[Scene]:
    """Start everything; stop everything at the end."""
    with (
        own_azure({"MISSING_IDENTITY_GRACE_SECONDS": "60"}) as world,
        Service(world.settings | {"PUBLIC_URL": world.service.url}) as other,
    ):
        numbers = [f"{number:03}" for number in range(users)]
        people = [
            world.new_person(f"soaked.{each}@contoso.example", name=f"Soaked {each}") for each in numbers
        ]
        administrator = world.new_person(roles=[ROLE], name="Ada Ministrator")
        yield Scene(world, (world.service, other), [*map(Member, people)], administrator, tally)
