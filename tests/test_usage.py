"""Tokens, sign-ins and refusals are counted behind the requests' backs, and nothing of it gets lost."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import pytest
import requests

from tests.support.identity_rows import insert_identity_row
from tests.support.service import Service
from tests.support.storage_proxy import Fault
from tests.support.together import run_together, wait_until
from tests.support.usage import FLUSH_SECONDS, Numbers, World, open_world
from trusted_service import connections
from trusted_service.config import ServiceSettings
from trusted_service.errors import UpstreamError
from trusted_service.storage.tables import Tables
from trusted_service.storage.usage import UsageTable
from trusted_service.usage import REFUSAL, SIGN_IN, TOKEN, UsageCounter


@pytest.fixture(scope="module")
def running_world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def world(running_world: World) -> Iterator[World]:
    """Where nothing has been counted yet."""
    running_world.tables.delete_table("usage")
    yield running_world
    running_world.storage.clear()


class Clock:
    """A clock that shows what it is told."""

    def __init__(self) -> None:
        self.shows = datetime(2026, 11, 23, 10, 59, 59, 999_999, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.shows


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def usage_table(world: World) -> Iterator[UsageTable]:
    """The product's own table, through the proxy."""
    session = connections.new_session(4)
    settings = ServiceSettings(connection_string=world.storage.connection_string)
    yield UsageTable(Tables.connect(settings, None, session, may_create=True).open("usage"))
    session.close()


@pytest.fixture
def counter(usage_table: UsageTable, clock: Clock) -> Iterator[UsageCounter]:
    counter = UsageCounter(usage_table, clock)
    yield counter
    counter.close()


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
        bad_token = {"Authorization": "Bearer bad"}
        assert requests.get(f"{one.url}/api/me", timeout=10).status_code == 401
        assert requests.get(f"{other.url}/api/me", headers=bad_token, timeout=10).status_code == 401
        assert ada.post("/api/token").status_code == 403  # without its CSRF value
        assert ada.get("/api/admin/users").status_code == 403
        # None of these is a refusal by the API or the sign-in.
        assert ada.get("/admin/usage").status_code == 403
        assert ada.get("/static/none.css").status_code == 404
        assert ada.get("/auth/callback").status_code == 400
        assert ada.get("/api/none").status_code == 404
        expected = Counter(
            [Numbers(tokens=1, sign_ins=2, refusals=3), Numbers(tokens=2, sign_ins=0, refusals=1)]
        )
        wait_until(lambda: world.by_process() == expected, 2 * FLUSH_SECONDS)
    assert world.by_process() == expected


def test_refused_sign_in_is_a_refusal_alone(world: World) -> None:
    with Service(world.settings, measured=True) as service:
        person = world.new_person(service)
        insert_identity_row(world.tables, person, acs_user_id="", blocked=True)
        assert person.sign_in().status_code == 403
    assert world.total() == Numbers(refusals=1)


def test_request_too_often_is_a_refusal(world: World) -> None:
    with Service(world.settings | {"RATE_LIMIT_TOKEN": "1 per hour"}) as service:
        person = world.new_user(service)
        assert [person.token().status_code for _ in range(2)] == [200, 429]
    assert world.total() == Numbers(tokens=1, sign_ins=1, refusals=1)


def test_graceful_stop_writes_the_rest_of_every_worker(world: World) -> None:
    with Service(world.settings, workers=2, measured=True) as service:
        answers = run_together([lambda: requests.get(f"{service.url}/api/me", timeout=10)] * 40)
        assert {answer.status_code for answer in answers} == {401}
    assert world.total() == Numbers(refusals=40)
    assert "usage_lost" not in service.log()


def test_storage_that_hangs_delays_nobody_and_loses_nothing(world: World) -> None:
    with Service(world.settings, measured=True) as service:
        person = world.new_user(service)
        csrf = person.csrf_headers()
        assert person.token(csrf=csrf).status_code == 200
        wait_until(lambda: world.total() == Numbers(tokens=1, sign_ins=1), 2 * FLUSH_SECONDS)
        world.storage.plant(Fault(kind="hang", method="P", table="usage"))
        assert person.token(csrf=csrf).status_code == 200
        wait_until(lambda: len(world.writes()) > 0, 2 * FLUSH_SECONDS)
        assert person.token(csrf=csrf).status_code == 200
        assert "usage_not_written" not in service.log()  # the write was still waiting
        wait_until(lambda: "usage_not_written" in service.log(), 2 * FLUSH_SECONDS)
        world.storage.clear()
        wait_until(lambda: world.total() == Numbers(tokens=3, sign_ins=1), 3 * FLUSH_SECONDS)


def test_stop_without_storage_leaves_the_counts_in_the_log(world: World) -> None:
    with Service(world.settings, measured=True) as service:
        world.storage.plant(Fault(kind="status", method="P", table="usage"))
        assert requests.get(f"{service.url}/api/me", timeout=10).status_code == 401
    assert "usage_lost" in service.log()
    assert "refusals=1" in service.log()


def test_warm_token_still_makes_two_round_trips(world: World) -> None:
    with Service(world.settings, measured=True) as service:
        person = world.new_user(service)
        csrf = person.csrf_headers()
        assert [person.token(csrf=csrf).status_code for _ in range(2)] == [200, 200]
        wait_until(lambda: world.total() == Numbers(tokens=2, sign_ins=1), 2 * FLUSH_SECONDS)
        world.azure.reset_calls()
        world.storage.clear()
        answers = [person.token(csrf=csrf) for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        wait_until(lambda: world.total() == Numbers(tokens=12, sign_ins=1), 2 * FLUSH_SECONDS)
        reads = [call for call in world.storage.calls() if call.table != "usage"]
        assert [(call.method, call.table) for call in reads] == [("GET", "sessions")] * 10
        assert [call.request_id for call in reads] == [answer.headers["X-Request-ID"] for answer in answers]
        assert world.azure.count_calls("acs") == {"issue": 10}
        # All ten went down in one write, or in two where they came just as one was made.
        assert 1 <= len(world.writes()) <= 2
        assert not {call.request_id for call in world.writes()} & {call.request_id for call in reads}


@pytest.mark.parametrize("kind", ["status", "reset", "fail-after-commit"])
def test_failed_write_is_kept_and_counts_once(
    world: World, counter: UsageCounter, kind: Literal["status", "reset", "fail-after-commit"]
) -> None:
    counter.count(TOKEN)
    counter.flush()
    counter.count(TOKEN)
    counter.count(SIGN_IN)
    world.storage.plant(Fault(kind=kind, method="P", table="usage", times=1))
    with pytest.raises(UpstreamError):
        counter.flush()
    counter.flush()
    assert world.total() == Numbers(tokens=2, sign_ins=1)
    counter.count(REFUSAL)
    counter.flush()
    assert world.total() == Numbers(tokens=2, sign_ins=1, refusals=1)


def test_hours_and_days_are_kept_apart(world: World, counter: UsageCounter, clock: Clock) -> None:
    moments = ["2026-11-23T10:59:59.999999", "2026-11-23T11:00:00", "2026-11-23T23:59:59", "2026-11-24T00:00"]
    for moment in moments:
        clock.shows = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        counter.count(TOKEN)
    counter.flush()
    keys = [(row["PartitionKey"], row["RowKey"][:3], row["Tokens"]) for row in world.rows()]
    assert keys == [
        ("2026-11-23", "10-", 1),
        ("2026-11-23", "11-", 1),
        ("2026-11-23", "23-", 1),
        ("2026-11-24", "00-", 1),
    ]


def test_clock_that_is_set_back_loses_nothing(world: World, counter: UsageCounter, clock: Clock) -> None:
    for hour in (10, 11, 10):
        clock.shows = clock.shows.replace(hour=hour)
        counter.count(TOKEN)
        counter.flush()
    assert world.total() == Numbers(tokens=3)


def test_hour_without_news_is_not_written_again(world: World, counter: UsageCounter) -> None:
    counter.count(TOKEN)
    counter.flush()
    world.storage.clear()
    counter.flush()
    assert world.writes() == []


def test_hour_outlives_an_outage_of_days(world: World, counter: UsageCounter, clock: Clock) -> None:
    counter.count(TOKEN)
    world.storage.plant(Fault(kind="status", method="P", table="usage"))
    for day in (24, 26, 28):
        clock.shows = clock.shows.replace(day=day)
        counter.count(TOKEN)
        with pytest.raises(UpstreamError):
            counter.flush()
    world.storage.clear()
    counter.flush()
    assert [row["PartitionKey"][-2:] for row in world.rows()] == ["23", "24", "26", "28"]


def test_counting_in_many_threads_misses_nothing(world: World, counter: UsageCounter) -> None:
    def count_often() -> None:
        for _ in range(1000):
            counter.count(TOKEN)

    run_together([count_often] * 16)
    counter.flush()
    assert world.total() == Numbers(tokens=16_000)
