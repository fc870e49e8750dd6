"""Fills a running `make run` with people who have used it: `python -m tools.demo_data DATA [COUNT]`.

What can happen now happens by HTTP or a command. What must have happened earlier is written by the service's
own modules. People are the same in each run, and each step looks for those who lack its result: a repeat adds
nothing twice, and finishes what an interrupted run left.
"""

import csv
import io
import logging
import os
import random
import subprocess  # nosec B404 # our own command
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import requests
import structlog

from local_azure.loopback import get_json
from local_azure.published import CONTROL_URL, read_published, service_environment
from local_azure.supervision import RunError
from tools.demo_people import DemoPerson, make_people
from trusted_service.audit import AuditQuery
from trusted_service.models import Actor, User, UserId, rfc3339
from trusted_service.services import Services
from trusted_service.settings import Settings
from trusted_service.usage import Counts

PEOPLE, DAYS, THREADS, CALL_SECONDS = 300, 30, 4, 30
RECORDED = timedelta(seconds=5)
"""More than what the record of a time leaves out."""
REASONS = (
    "Left the company", "Lost laptop, reported to the help desk", "Contract ended",
    "Account shared with a colleague", "Parental leave until March", "Security incident 4711",
)  # fmt: skip
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/148.0.0.0 Edg/148.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Version/19.1 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36 Chrome/148.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
)


T = TypeVar("T")


def main() -> None:
    try:
        settings = read_published(Path(sys.argv[1]))
    except RunError as error:
        sys.exit(str(error))
    os.environ.update(service_environment(settings))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    services = Services(Settings.from_env())
    try:
        Demo(settings, services, int(sys.argv[2]) if sys.argv[2:] else PEOPLE).fill()
    except RunError as error:
        sys.exit(str(error))
    finally:
        services.close()


class Demo:
    """The service's settings, its storage, and the people."""

    def __init__(self, settings: dict[str, str], services: Services, count: int) -> None:
        self.settings, self.services = settings, services
        self.url, self.control = settings["PUBLIC_URL"], settings[CONTROL_URL]
        self.tenant = services.settings.entra_allowed_tenants[0]
        self.people = make_people(count)
        self.now = datetime.now(UTC)
        self.chance = random.Random(count)  # noqa: S311 # nosec B311 # made-up data
        accounts = {account["username"]: account for account in get_json(f"{self.control}/accounts")}
        self.admin = Actor(
            kind="administrator", key=f"{self.tenant}/{accounts['admin@contoso.example']['objectId']}"
        )

    def fill(self) -> None:
        """Do each step for those who lack its result, and say what it did."""
        self.add_accounts()
        new = [person for person in self.people if self.services.identities.find(self.id_of(person)) is None]
        say(f"{len(self.people)} accounts, {len(new)} of them new to the service")
        self.import_people(new)
        active, share = [person for person in self.people if person.idle is not None], len(self.people) // 12
        waiting = [person for person in active[: 2 * share] if not self.has_new_token(person)]
        say(f"{self.for_each(self.request_token, waiting)} requested tokens just now")
        say(f"{self.sign_in(active[: 2 * share])} sessions began, some people's on several devices")
        say(f"{self.act(active[2 * share : 3 * share])} were blocked, signed out or lost their tokens")
        say(f"{self.write_usage()} hours of usage")

    def id_of(self, person: DemoPerson) -> UserId:
        return UserId(self.tenant, person.object_id)

    def for_each(self, action: Callable[[T], object], values: Sequence[T]) -> int:
        """Do it for several values at once; return how many there are."""
        with ThreadPoolExecutor(THREADS) as pool:
            return len(list(pool.map(action, values)))

    def add_accounts(self) -> None:
        def put(person: DemoPerson) -> None:
            members = {"name": person.name, "tenantId": self.tenant, "objectId": person.object_id}
            with requests.Session() as http:
                http.trust_env = False
                url = f"{self.control}/accounts/{person.username}"
                http.put(url, json=members, timeout=CALL_SECONDS).raise_for_status()

        self.for_each(put, self.people)

    def import_people(self, people: Sequence[DemoPerson]) -> None:
        """Import them as from an earlier system, with the times of its records."""
        if not people:
            return
        with ThreadPoolExecutor(THREADS) as pool:
            create = self.services.communication.create_identity
            ids = list(pool.map(lambda _: create(("chat",), 60)[0], people))
        text = io.StringIO()
        columns = "tenantId objectId name username communicationUserId createdAt lastTokenAt"
        csv.writer(text).writerow(columns.split())
        for person, acs_user_id in zip(people, ids, strict=True):
            times = [self.now - person.age, None if person.idle is None else self.now - person.idle]
            described = (self.tenant, person.object_id, person.name, person.username, acs_user_id)
            csv.writer(text).writerow([*described, *(time and rfc3339(time) for time in times)])
        path = Path(sys.argv[1]) / "demo-users.csv"
        path.write_text(text.getvalue(), encoding="utf-8")
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "import", str(path)]
        ended = subprocess.run(  # nosec B603 # our own command
            command, capture_output=True, text=True, check=False
        )
        path.unlink()
        if ended.returncode != 0:
            raise RunError(f"The import failed:\n{ended.stdout}{ended.stderr}")
        without = sum(person.idle is None for person in people)
        say(f"{len(people)} imported from an earlier system, {without} of them without any token")

    def request_token(self, person: DemoPerson) -> None:
        """Request a token with a bearer token, as a phone app does."""
        minted = get_json(f"{self.control}/entra/token", {"username": person.username})["access_token"]
        with requests.Session() as http:
            http.trust_env = False
            headers = {"Authorization": f"Bearer {minted}"}
            http.post(f"{self.url}/api/token", headers=headers, timeout=CALL_SECONDS).raise_for_status()

    def has_new_token(self, person: DemoPerson) -> bool:
        """Tell whether they have requested one since the import, which fixed the time between these two."""
        row = self.services.identities.get(self.id_of(person))
        imported = person.age - (person.idle or timedelta())
        return row.last_token_at is not None and row.last_token_at - row.created_at > imported + RECORDED

    def sign_in(self, people: Sequence[DemoPerson]) -> int:
        """Sign them in as the service would have earlier, on one device or several; return how many."""
        count = 0
        for person in people:
            there = len(self.services.sessions.list_by_user(self.id_of(person)))
            for device in range(there, 1 + len(person.name) % 3):
                self.add_session(person, BROWSERS[(len(person.username) + device) % len(BROWSERS)])
                count += 1
        return count

    def act(self, people: Sequence[DemoPerson]) -> int:
        """Do what administrators and operators do: mostly block. Return to how many it was new."""
        administration, count = self.services.administration, 0
        actors = (self.admin, self.admin, Actor(kind="operator", key="deploy@build-7"))
        for number, person in enumerate(people):
            actor, user_id = actors[number % len(actors)], self.id_of(person)
            events = self.services.audit.all(AuditQuery(target=user_id))
            if any(event.action != "import" and event.outcome == "done" for event in events):
                continue
            count += 1
            if number % 5 == 3:
                administration.sign_out(actor, user_id)
            elif number % 5 == 4:
                administration.revoke(actor, user_id)
            else:
                administration.block(actor, user_id, REASONS[number % len(REASONS)])
        return count

    def add_session(self, person: DemoPerson, browser: str) -> None:
        """Add a session that began some hours ago and was used within the hour, from another address."""
        user = User(id=self.id_of(person), name=person.name, username=person.username)
        address = f"203.0.113.{self.chance.randrange(1, 255)}"
        sessions = self.services.sessions
        _, session = sessions.create(user, login_hint=person.username, address=address, user_agent=browser)
        seen_at = self.now - timedelta(minutes=self.chance.randrange(45))
        partition, row = session.key.split("/")
        times = {"CreatedAt": seen_at - timedelta(minutes=self.chance.randrange(1, 300)), "SeenAt": seen_at}
        sessions.table.merge({"PartitionKey": partition, "RowKey": row} | times)

    def write_usage(self) -> int:
        """Write what a process would have counted in each other hour of the month, more on working days."""
        this_hour = self.now.replace(minute=0, second=0, microsecond=0)
        hours = [this_hour - timedelta(hours=hour) for hour in range(1, 24 * DAYS)]
        table = self.services.usage._table
        counted = table.read_hours(hours[-1].date(), self.now.date())

        def put(hour: datetime) -> None:
            chance = random.Random(int(hour.timestamp()))  # noqa: S311 # nosec B311 # the same in each run
            busy = (0.15 if hour.weekday() > 4 else 1) * max(0.03, 1 - abs(hour.hour - 13) / 7)
            tokens = int(180 * busy * chance.uniform(0.7, 1.3))
            sign_ins = int(tokens / chance.uniform(3, 5))
            table.put("demo-data", hour, Counts(tokens, sign_ins, tokens // 60))

        return self.for_each(put, [hour for hour in hours if hour not in counted])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
