"""Keys and certificates are changed instance by instance, without one failed request."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.admin_client import bearer, post_token
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import GENEROUS
from tests.support.person import Person
from tests.support.service import Service
from tests.support.settings import OWN_SETTINGS

ACS, STORAGE = "COMMUNICATION_SERVICES_CONNECTION_STRING", "TABLE_STORAGE_CONNECTION_STRING"
CERTIFICATE = "ENTRA_CLIENT_CERTIFICATE_PATH"
OLD_KEY, PUBLIC_URL = OWN_SETTINGS["SECRET_KEY"], OWN_SETTINGS["PUBLIC_URL"]
# pragma: allowlist nextline secret (opens nothing)
NEW_KEY = "another-for-tests-9876543210-zyxwvu"
INSTANCES = 2
DRAIN_SECONDS, LEAST = 0.5, 10


class Fleet:
    """Instances behind a load balancer, which sends no request to one that is about to stop."""

    def __init__(self, azure: LocalAzure, stack: ExitStack) -> None:
        self._azure, self._stack = azure, stack
        self._settings = azure.env | GENEROUS | OWN_SETTINGS
        self._live = [self._start() for _ in range(INSTANCES)]

    def roll(self, **changes: str) -> None:
        """Replace each instance in turn by one with changed settings."""
        self._settings |= changes
        for position, old in enumerate(self._live):
            self._live[position] = self._start()
            time.sleep(DRAIN_SECONDS)
            old.stop()

    @contextmanager
    def busy(self) -> Iterator[Callable[[], None]]:
        """Send requests of all kinds all the time, and check at the end that each succeeded.

        Yields a function that waits until each kind has succeeded some more times.
        """
        user, other = (Person(self._azure, PUBLIC_URL, self._azure.new_account()) for _ in range(2))
        headers, seen, stop = bearer(self._azure, user), Counter[tuple[str, object]](), threading.Event()
        self._sign_in(user)
        csrf = self._anywhere(user).csrf_headers()
        kinds: dict[str, Callable[[], int]] = {
            "session": lambda: self._anywhere(user).token(csrf=csrf).status_code,
            "bearer": lambda: post_token(self._anywhere(user), headers).status_code,
            "sign-in": lambda: self._sign_in(Person(self._azure, PUBLIC_URL, other.account)),
        }

        def send(kind: str) -> None:
            while not stop.is_set():
                try:
                    outcome: object = kinds[kind]()
                except Exception as error:  # what failed is shown at the end
                    outcome = repr(error)
                seen[kind, outcome] += 1

        def wait() -> None:
            enough = {kind: seen[kind, 200] + LEAST for kind in kinds}
            while any(seen[kind, 200] < enough[kind] for kind in kinds) and len(seen) <= len(kinds):
                time.sleep(DRAIN_SECONDS)

        with ThreadPoolExecutor(len(kinds)) as pool:
            pool.map(send, kinds)
            try:
                wait()
                yield wait
                wait()
            finally:
                stop.set()
        assert seen.keys() == {(kind, 200) for kind in kinds}

    def _start(self) -> Service:
        service = Service(self._settings)
        self._stack.callback(service.stop)
        return service.start()

    def _anywhere(self, person: Person) -> Person:
        return person.at(random.choice(self._live).url)  # noqa: S311 - any will do

    def _sign_in(self, person: Person) -> int:
        """Sign in by any two instances; return the status of the session's first request to another."""
        first, second = self._anywhere(person), self._anywhere(person)
        page = first.get("/auth/sign-in", params={"moved": "1"}).headers["Location"]
        address = self._azure.sign_in(first.http, page, person.account.username)
        second.http = first.http
        second.finish_sign_in(address.replace(PUBLIC_URL, second.url))
        person.http.cookies.update(second.http.cookies)
        return self._anywhere(person).get("/api/me").status_code


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """One of its own, because its keys change."""
    with LocalAzure() as running:
        yield running


@pytest.fixture(scope="module")
def fleet(azure: LocalAzure) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(azure, stack)


def test_signing_key_is_rotated_without_failure(fleet: Fleet) -> None:
    """Every instance must know the new key before one signs with it."""
    with fleet.busy() as wait:
        fleet.roll(SECRET_KEY_FALLBACKS=NEW_KEY)
        fleet.roll(SECRET_KEY=NEW_KEY, SECRET_KEY_FALLBACKS=OLD_KEY)
        wait()


def test_communication_key_is_rotated_without_failure(fleet: Fleet, azure: LocalAzure) -> None:
    first, second = azure.list_endpoints()[0]["connectionStrings"]
    assert azure.env[ACS] == first
    with fleet.busy() as wait:
        fleet.roll(**{ACS: second})
        azure.regenerate_key("primary")
        wait()
        fleet.roll(**{ACS: azure.list_endpoints()[0]["connectionStrings"][0]})
        azure.regenerate_key("secondary")
    assert not {first, second} & set(azure.list_endpoints()[0]["connectionStrings"])


def test_storage_key_is_rotated_without_failure(fleet: Fleet, azure: LocalAzure) -> None:
    """Azurite cannot regenerate a key while it runs, so the first one stays valid."""
    first, second = azure.list_storage_keys()
    assert azure.env[STORAGE] == first != second
    with fleet.busy():
        fleet.roll(**{STORAGE: second})


def test_client_certificate_is_rotated_without_failure(fleet: Fleet, azure: LocalAzure) -> None:
    first = azure.get_app().certificate_path
    with fleet.busy() as wait:
        fleet.roll(**{"ENTRA_CLIENT_SECRET": "", CERTIFICATE: str(first)})
        second = azure.add_certificate().certificate_path
        assert second.read_bytes() != first.read_bytes()
        wait()
        fleet.roll(**{CERTIFICATE: str(second)})
        azure.remove_old_certificates()
