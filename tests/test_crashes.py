"""The service is killed between any two calls of a first token, or of a healing: only the answer is lost.

Everybody is held at a boundary of their own, then one SIGKILL strikes them all and the service starts again.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.identity_rows import find_identity_row, get_identity, list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, Kind, StorageProxy
from tests.support.together import run_together, wait_until


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Where somebody is held: before a call is done, or after it is done and before its answer.

    `orphan` says that the contract allows the loss of an identity here; `healing`, that the person
    had an identity which is gone.
    """

    name: str
    method: str = ""
    table: str = ""
    kind: Kind = "hang"
    skip: int = 0
    create: str = ""
    orphan: bool = False
    healing: bool = False
    lost_race: bool = False

    def __str__(self) -> str:
        """The name, as pytest shows it."""
        return self.name


BOUNDARIES = [
    Boundary(name="before the session is read", method="GET", table="sessions"),
    Boundary(name="before the identity is read", method="GET", table="identities"),
    Boundary(name="before the create", create="hang"),
    Boundary(name="after the create", create="fail-after-commit", orphan=True),
    Boundary(name="before the insert", method="POST", table="identities", orphan=True),
    Boundary(name="after the insert", method="POST", table="identities", kind="hang-after-commit"),
    Boundary(name="before the last look at the session", method="GET", table="sessions", skip=1),
    Boundary(name="before the session is noted", method="P", table="sessions"),
    Boundary(name="before the change is noted", method="P", table="userindex"),
    Boundary(name="before the deletion after a lost race", lost_race=True, orphan=True),
    Boundary(name="healing, before the row", method="PATCH", table="identities", healing=True, orphan=True),
    Boundary(
        name="healing, after the row",
        method="PATCH",
        table="identities",
        kind="hang-after-commit",
        healing=True,
    ),
]


@dataclass(frozen=True)
class Victim:
    """Somebody who is signed in at the service that will be killed; `gone` is the identity they lost."""

    person: Person
    csrf: dict[str, str]
    gone: str | None

    def ask(self) -> requests.Response | None:
        """Ask for a token; None where the service died over it."""
        try:
            return self.person.token(csrf=self.csrf)
        except requests.ConnectionError:
            return None


@dataclass(frozen=True)
class Crash:
    """What was before and after: answers by boundary, identities, and who was asked."""

    victims: dict[Boundary, Victim]
    during: dict[Boundary, requests.Response | None]
    after: dict[Boundary, requests.Response | None]
    identities_before: set[str]
    identities_after: set[str]


def read_token(answer: requests.Response | None) -> tuple[str, str]:
    """Return token and identity of an answer, which must have come and hold them."""
    assert answer is not None
    assert answer.status_code == 200, answer.text
    document = answer.json()
    return document["token"], document["user"]["communicationUserId"]


@pytest.fixture(scope="module")
def doomed(settings: dict[str, str]) -> Iterator[Service]:
    """A service that is killed."""
    with Service(settings) as running:
        yield running


@pytest.fixture(scope="module")
def crash(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    tables: TableServiceClient,
    new_person: Callable[..., Person],
    service: Service,
    doomed: Service,
) -> Crash:
    """Hold everybody at their boundary, kill the service, start it again, and let everybody ask again."""

    def arrive(boundary: Boundary) -> Victim:
        person = new_person(at=doomed)
        person.sign_in()
        csrf = person.csrf_headers()
        if boundary.healing:
            assert person.token(csrf=csrf).status_code == 200
            wait_until(lambda: all(row.get("TokenNotedAt") for row in list_sessions(tables, person)))
            azure.delete_identity(get_identity(tables, person))
        return Victim(person, csrf, get_identity(tables, person) if boundary.healing else None)

    def hold(boundary: Boundary) -> Fault:
        person = victims[boundary].person
        about = person.account.object_id
        if boundary.table == "sessions":
            (row,) = list_sessions(tables, person)
            about = row["PartitionKey"]
        fault = Fault(
            kind=boundary.kind,
            method=boundary.method,
            table=boundary.table,
            about=about,
            skip=boundary.skip,
            times=1,
        )
        if boundary.lost_race:
            rival = person.at(service.url)
            fault.kind, fault.method, fault.table = "signal", "POST", "identities"
            fault.action = partial(rival.token, csrf=victims[boundary].csrf)
        storage_proxy.plant(fault)
        return fault

    def is_done(boundary: Boundary) -> bool:
        row = find_identity_row(tables, victims[boundary].person)
        return row is not None and row["AcsUserId"] != victims[boundary].gone

    arrivals = run_together([partial(arrive, boundary) for boundary in BOUNDARIES])
    victims = dict(zip(BOUNDARIES, arrivals, strict=True))
    before = set(azure.list_identities())
    # Faults of Communication Services strike whoever comes first: these, and then nobody else.
    creators = [boundary for boundary in BOUNDARIES if boundary.create]
    others = [boundary for boundary in BOUNDARIES if not boundary.create]
    for boundary in creators:
        azure.plant_fault("acs", "create", boundary.create, then="hang")
    with ThreadPoolExecutor(max_workers=len(BOUNDARIES)) as pool:
        asking = {boundary: pool.submit(victims[boundary].ask) for boundary in creators}
        wait_until(lambda: not azure.list_faults())
        azure.plant_fault("acs", "delete", "hang")
        held = [hold(boundary) for boundary in others]
        asking |= {boundary: pool.submit(victims[boundary].ask) for boundary in others}
        wait_until(lambda: all(fault.times == 0 for fault in held) and not azure.list_faults())
        for boundary in BOUNDARIES:
            if boundary.kind == "hang-after-commit":
                wait_until(partial(is_done, boundary))
        doomed.kill()
        during = {boundary: asking[boundary].result() for boundary in BOUNDARIES}
    azure.clear_faults()
    storage_proxy.clear()
    doomed.start()
    after = {boundary: victims[boundary].ask() for boundary in BOUNDARIES}
    return Crash(victims, during, after, before, set(azure.list_identities()))


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_crash_was_where_it_should_be(crash: Crash, boundary: Boundary) -> None:
    answer = crash.during[boundary]
    answered_before = boundary.method in ("P", "PATCH") and not boundary.healing
    assert (answer is not None) == answered_before


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_next_request_after_a_crash_gets_a_token_for_the_one_identity(
    azure: LocalAzure, tables: TableServiceClient, crash: Crash, boundary: Boundary
) -> None:
    token, identity = read_token(crash.after[boundary])
    check = azure.check_token(token)
    (row,) = list_identity_rows(tables, crash.victims[boundary].person)
    assert row["AcsUserId"] == identity == check["identity"]
    assert check["valid"] is True
    if crash.during[boundary] is not None:
        assert read_token(crash.during[boundary])[1] == identity


def test_crash_leaves_orphans_only_where_the_contract_allows_them(crash: Crash) -> None:
    owned = {read_token(answer)[1] for answer in crash.after.values()}
    orphans = crash.identities_after - crash.identities_before - owned
    assert owned <= crash.identities_after
    assert len(orphans) <= sum(boundary.orphan for boundary in BOUNDARIES)
