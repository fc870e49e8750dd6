"""Tokens, sign-ins and refusals are counted in the background, and no count is lost."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
import requests

from tests.support.concurrency import run_concurrently, wait_until
from tests.support.rows import insert_identity_row
from tests.support.service import Service
from tests.support.settings import OWN_SETTINGS
from tests.support.storage_proxy import Fault, Kind
from tests.support.usage import FLUSH_SECONDS, World
from trusted_service.azure import transport
from trusted_service.settings import Settings
from trusted_service.storage.account import StorageAccount
from trusted_service.usage import REFUSAL, SIGN_IN, TOKEN, Counts, UsageCounter, UsageTable


@dataclass
class Clock:
    """A clock that the test sets."""

    now: datetime = datetime(2026, 11, 23, 10, 59, 59, 999_999, tzinfo=UTC)

    def __call__(self, _zone: tzinfo) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counter(world: World, clock: Clock) -> Iterator[UsageCounter]:
    """The product's own counter, which writes through the proxy."""
    settings = Settings.from_env(world.settings | OWN_SETTINGS)
    with transport.new_session(4) as session:
        table = UsageTable(StorageAccount(settings, None, session).open("usage"))
        with contextlib.closing(UsageCounter(table, clock)) as counter:
            yield counter


def test_counts_of_two_processes_add_up(world: World) -> None:
    with (
        Service(world.settings, measured=True) as one,
        Service(world.settings | {"PUBLIC_URL": one.url}) as other,
    ):
        ada, bob = world.new_user(one), world.new_user(one)
        for person in (ada, ada.at(other.url), bob.at(other.url)):
            assert person.token().status_code == 200
        world.azure.plant_fault("acs", "issue", "status", status=503, times=1)
        assert ada.token().status_code == 503
        for url, headers in ((one.url, {}), (other.url, {"Authorization": "Bearer bad"})):
            assert requests.get(f"{url}/api/me", headers=headers, timeout=10).status_code == 401
        assert ada.post("/api/token").status_code == 403  # without its CSRF value
        assert ada.get("/api/admin/users").status_code == 403
        # Only refusals by the API and the sign-in are counted.
        others = {"/admin/usage": 403, "/static/none.css": 404, "/auth/callback": 400, "/api/none": 404}
        assert {path: ada.get(path).status_code for path in others} == others
        expected = Counter([Counts(tokens=1, sign_ins=2, refusals=3), Counts(tokens=2, refusals=1)])
        wait_until(lambda: world.by_process() == expected, 2 * FLUSH_SECONDS)
    assert world.by_process() == expected


def test_refused_sign_in_and_429_are_refusals(world: World) -> None:
    with Service(world.settings | {"RATE_LIMIT_TOKEN": "1 per hour"}, measured=True) as service:
        person = world.new_user(service)
        assert [person.token().status_code for _ in range(2)] == [200, 429]
        blocked = world.new_person(service)
        insert_identity_row(world.tables, blocked, acs_user_id="", blocked=True)
        assert blocked.sign_in().status_code == 403
    assert world.total() == Counts(tokens=1, sign_ins=1, refusals=2)


def test_graceful_stop_flushes_every_worker(world: World) -> None:
    with Service(world.settings, workers=2, measured=True) as service:
        responses = run_concurrently([lambda: requests.get(f"{service.url}/api/me", timeout=10)] * 40)
        assert {response.status_code for response in responses} == {401}
    assert world.total() == Counts(refusals=40)
    assert "usage_lost" not in service.log()


def test_hanging_storage_delays_and_loses_nothing(world: World) -> None:
    with Service(world.settings, measured=True) as service:
        person = world.new_user(service)
        csrf = person.csrf_headers()
        assert person.token(csrf=csrf).status_code == 200
        wait_until(lambda: world.total() == Counts(tokens=1, sign_ins=1), 2 * FLUSH_SECONDS)
        world.storage.plant(Fault(kind="hang", method="P", table="usage"))
        assert person.token(csrf=csrf).status_code == 200
        wait_until(lambda: len(world.writes()) > 0, 2 * FLUSH_SECONDS)
        assert person.token(csrf=csrf).status_code == 200
        assert "usage_not_written" not in service.log()  # the write is still pending
        wait_until(lambda: "usage_not_written" in service.log(), 2 * FLUSH_SECONDS)
        world.storage.clear()
        wait_until(lambda: world.total() == Counts(tokens=3, sign_ins=1), 3 * FLUSH_SECONDS)


def test_stop_without_storage_logs_the_counts(world: World) -> None:
    with Service(world.settings, measured=True) as service:
        world.storage.plant(Fault(kind="status", method="P", table="usage"))
        assert requests.get(f"{service.url}/api/me", timeout=10).status_code == 401
        service.stop()
    assert "usage_lost" in service.log()
    assert "refusals=1" in service.log()


def test_warm_token_still_makes_two_round_trips(world: World) -> None:
    with Service(world.settings, measured=True) as service:
        person = world.new_user(service)
        csrf = person.csrf_headers()
        assert [person.token(csrf=csrf).status_code for _ in range(2)] == [200, 200]
        wait_until(lambda: world.total() == Counts(tokens=2, sign_ins=1), 2 * FLUSH_SECONDS)
        world.azure.reset_calls()
        world.storage.clear()
        responses = [person.token(csrf=csrf) for _ in range(10)]
        assert {response.status_code for response in responses} == {200}
        wait_until(lambda: world.total() == Counts(tokens=12, sign_ins=1), 2 * FLUSH_SECONDS)
        reads = [call for call in world.storage.calls() if call.table not in ("usage", "jobs")]
        assert [(call.method, call.table) for call in reads] == [("GET", "sessions")] * 10
        assert [call.request_id for call in reads] == [one.headers["X-Request-ID"] for one in responses]
        assert world.azure.count_calls("acs") == {"issue": 10}
        # All ten are in one write, or in two if one was due in between.
        assert 1 <= len(world.writes()) <= 2
        assert not {call.request_id for call in world.writes()} & {call.request_id for call in reads}


@pytest.mark.parametrize("kind", ["status", "reset", "fail-after-commit"])
def test_failed_write_counts_once(world: World, counter: UsageCounter, kind: Kind) -> None:
    counter.count(TOKEN)
    counter.flush()
    counter.count(TOKEN)
    counter.count(SIGN_IN)
    world.storage.plant(Fault(kind=kind, method="P", table="usage", times=1))
    counter.flush()
    counter.flush()
    assert world.total() == Counts(tokens=2, sign_ins=1)
    counter.count(REFUSAL)
    counter.flush()
    assert world.total() == Counts(tokens=2, sign_ins=1, refusals=1)


def test_hours_and_days_are_separate(world: World, counter: UsageCounter, clock: Clock) -> None:
    moments = ["2026-11-23T10:59:59.999999", "2026-11-23T11:00:00", "2026-11-23T23:59:59", "2026-11-24T00:00"]
    for moment in moments:
        clock.now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        counter.count(TOKEN)
    counter.flush()
    keys = [f"{row['PartitionKey']} {row['RowKey'][:3]} {row['Tokens']}" for row in world.rows()]
    assert keys == ["2026-11-23 10- 1", "2026-11-23 11- 1", "2026-11-23 23- 1", "2026-11-24 00- 1"]
    for hour in (0, 10, 0):  # the clock is set back
        clock.now = clock.now.replace(hour=hour)
        counter.count(TOKEN)
        counter.flush()
    assert world.total() == Counts(tokens=7)


def test_outage_of_25_hours_loses_no_count(world: World, counter: UsageCounter, clock: Clock) -> None:
    counter.count(TOKEN)
    counter.flush()
    counter.count(TOKEN)
    world.storage.plant(Fault(kind="status", method="P", table="usage"))
    for _ in range(2):
        counter.flush()
        clock.now += timedelta(hours=25)
        counter.count(TOKEN)
    world.storage.clear()
    counter.flush()
    written = [f"{row['PartitionKey'][-2:]}: {row['Tokens']}" for row in world.rows()]
    assert written == ["23: 2", "24: 1", "25: 1"]


def test_counting_in_many_threads_misses_nothing(world: World, counter: UsageCounter) -> None:
    def count_often() -> None:
        for _ in range(1000):
            counter.count(TOKEN)

    run_concurrently([count_often] * 16)
    counter.flush()
    assert world.total() == Counts(tokens=16_000)
    world.storage.clear()
    counter.flush()
    assert world.writes() == [], "an unchanged hour is not written again"
