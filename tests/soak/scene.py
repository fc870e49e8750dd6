"""The stage: the local Azure, its storage behind a proxy, two service processes, and who takes part."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import requests

from tests.soak.tally import Tally
from tests.support.desk import ROLE
from tests.support.local_azure import LocalAzureError
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.service import Service


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A token that somebody got, and between when the request for it was under way."""

    token: str
    identity: str
    began: float
    ended: float


@dataclass(eq=False)
class Member:
    """A user, and what is known about them: what they were given, and what was done to them.

    `deleting` counts deletions under way; `deleted_at` is when the last one ended; `half_deleted` tells that
    one was not answered with success, so that it may be finished at any time. `block_began`
    and `blocked_at` are when a block that holds was asked for and confirmed, or None.
    """

    person: Person
    grants: list[Grant] = field(default_factory=list)
    identity: str = ""
    seen_at: float = 0.0
    deleting: int = 0
    deleted_at: float = 0.0
    half_deleted: bool = False
    block_began: float | None = None
    blocked_at: float | None = None
    ended_cookies: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> str:
        return self.person.key


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that is on the stage."""

    world: OwnAzure
    services: tuple[Service, Service]
    members: list[Member]
    administrator: Person
    tally: Tally
    stop: threading.Event
    kill_times: list[float] = field(default_factory=list)

    def send(
        self, chance: random.Random, who: Person, action: str, method: str, path: str, **options: object
    ) -> requests.Response | None:
        """Make a request at either service, count it, and return its answer, if one came."""
        url = chance.choice(self.services).url + path
        begin = time.monotonic()
        try:
            answer = who.http.request(
                method,
                url,
                allow_redirects=False,
                timeout=60,
                **options,  # type: ignore[arg-type]
            )
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            self.tally.died(action)
            return None
        self.tally.answered(action, answer.status_code, time.monotonic() - begin, _code(answer))
        return answer

    def sign_in(self, chance: random.Random, who: Person) -> bool:
        """Sign in the whole way; tell whether it worked."""
        answer = self.send(chance, who, "sign-in", "GET", "/auth/sign-in")
        if answer is None or answer.status_code != 302:
            return False
        try:
            callback = self.world.azure.sign_in(who.http, answer.headers["Location"], who.account.username)
        except (LocalAzureError, requests.ConnectionError):
            return False
        path = callback.removeprefix(self.services[0].url)
        done = self.send(chance, who, "callback", "GET", path)
        return done is not None and done.status_code == 302


def chance_of(seed: str, who: str) -> random.Random:
    """What somebody's choices come from: the same in each soak of this seed, whatever the others do."""
    return random.Random(f"{seed} {who}")  # noqa: S311 (nothing is kept secret by it)


def _code(answer: requests.Response) -> str:
    if answer.headers.get("Content-Type") != "application/problem+json":
        return ""
    return str(answer.json()["code"])


@contextlib.contextmanager
def set_up(users: int, tally: Tally) -> Iterator[Scene]:
    """Start everything; stop everything at the end."""
    with (
        own_azure({"MISSING_IDENTITY_GRACE_SECONDS": "10"}) as world,
        Service(world.settings | {"PUBLIC_URL": world.service.url}) as other,
    ):
        members = [
            Member(world.new_person(f"soaked.{number:03}@contoso.example", name=f"Soaked {number:03}"))
            for number in range(users)
        ]
        yield Scene(
            world=world,
            services=(world.service, other),
            members=members,
            administrator=world.new_person(roles=[ROLE], name="Ada Ministrator"),
            tally=tally,
            stop=threading.Event(),
        )
