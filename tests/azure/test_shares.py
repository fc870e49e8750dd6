"""Users and jobs leave room for administrators at Communication Services, whose own limits are in force."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import requests

from tests.support.admin_client import Admin
from tests.support.concurrency import repeat, run_concurrently, wait_until
from tests.support.jobs import JobAdmin
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.problems import assert_problem
from tests.support.redis import Redis, close_pools, closed_later
from tests.support.settings import OWN_SETTINGS
from trusted_service.azure import deadlines, shares, transport
from trusted_service.azure.communication import Communication
from trusted_service.azure.revocations import INTERVAL_SECONDS, PLACES, Revocations
from trusted_service.errors import UpstreamThrottled, UpstreamUnavailable
from trusted_service.jobs.worker import REVOCATIONS
from trusted_service.models import Actor
from trusted_service.services import Services
from trusted_service.settings import Settings

USERS, JOBS = (int(shares.CALLS * shares.SHARES[holder]) for holder in ("users", "jobs"))
THREADS = 8
LOOP_SECONDS = 4.0


@pytest.fixture(scope="module")
def world(redis: Redis) -> Iterator[OwnAzure]:
    """A service without limits on users, which shares its counts with others."""
    with own_azure({"RATE_LIMIT_STORAGE_URI": redis.uri}) as running:
        yield running


@pytest.fixture(autouse=True)
def _limits(world: OwnAzure, redis: Redis) -> Iterator[None]:
    """Everybody begins to count, from zero."""
    world.azure.turn_limits(True)
    redis.client.flushdb()
    yield
    close_pools()


def connect(world: OwnAzure, **settings: str) -> Communication:
    """The client of another process."""
    with world.azure.in_environment():
        session = transport.new_session(64)
        own = Settings.from_env(world.settings | OWN_SETTINGS | settings)
        communication = Communication(own, None, session)
    closed_later(communication.shares)
    return communication


def use(communication: Communication, kind: str, ids: Sequence[str], *, for_user: bool) -> list[str]:
    """Revoke or delete each, for a user or an administrator; return the `Retry-After` of refusals."""

    def call(acs_user_id: str) -> str:
        with shares.for_user(for_user):
            try:
                if kind == "delete":
                    communication.delete_identity(acs_user_id)
                else:
                    communication.revoke_tokens(acs_user_id)
            except UpstreamThrottled as error:
                return error.retry_after or "?"
        return ""

    with ThreadPoolExecutor(24) as pool:
        return [value for value in pool.map(call, ids) if value]


def new_ids(world: OwnAzure, count: int) -> list[str]:
    """Ids of this resource without identities, which are cheap and count all the same."""
    stem = world.azure.new_unknown_identity().rpartition("_")[0]
    return [f"{stem}_00000000-0000-4000-8000-{number:012d}" for number in range(count)]


@pytest.mark.parametrize("kind", ["revoke", "delete"])
def test_users_leave_calls_for_administrators(world: OwnAzure, kind: str) -> None:
    communication = connect(world, RATE_LIMIT_STORAGE_URI="memory://")
    ids = new_ids(world, shares.CALLS - USERS - JOBS)
    refused = use(communication, kind, new_ids(world, USERS + 50), for_user=True)
    assert len(refused) == 50
    assert all(1 <= int(seconds) <= shares.WINDOW_SECONDS for seconds in refused)
    assert use(communication, kind, ids, for_user=False) == []
    assert world.azure.count_calls("acs")[kind] >= USERS + len(ids)


def test_processes_share_counts_in_redis_else_divide(world: OwnAzure, redis: Redis) -> None:
    ids, (first, second) = new_ids(world, USERS + 20), (connect(world) for _ in range(2))
    assert use(first, "delete", ids[:100], for_user=True) == []
    assert len(use(second, "delete", ids[100:], for_user=True)) == 20
    second.shares.sharers["users"] = 2  # of this instance: without Redis each counts alone
    world.azure.turn_limits(True)
    redis.stop()
    try:
        assert len(use(second, "delete", ids[: USERS // 2 + 5], for_user=True)) == 5
    finally:
        redis.start()


def test_administrator_blocks_while_users_loop(world: OwnAzure) -> None:
    """Users and jobs of other instances have used up their share and a little more."""
    admin, targets = world.new_admin(), [world.new_user() for _ in range(4)]
    tokens = [target.get_token() for target in targets]
    noisy = [world.new_user() for _ in range(THREADS)]
    sends = [partial(user.post, "/api/me/revoke", headers=user.csrf_headers()) for user in noisy]
    use(connect(world), "revoke", new_ids(world, USERS + JOBS), for_user=False)

    def block_all() -> list[int]:
        time.sleep(LOOP_SECONDS / 2)
        return [admin.act("api", target, "block").status_code for target in targets]

    pool = ThreadPoolExecutor(THREADS)
    loops = [pool.submit(repeat, send, LOOP_SECONDS) for send in sends]
    assert block_all() == [200] * len(targets)
    assert {response.status_code for run in loops for response in run.result()} == {204}
    assert not [token for token in tokens if world.azure.check_token(token)["valid"]]


def test_used_up_share_stops_users_and_jobs_alone(world: OwnAzure) -> None:
    admin, (leaver, *others) = JobAdmin(world.new_admin().person), [world.new_user() for _ in range(4)]
    draft = admin.draft(admin.select("delete", [leaver.key]))
    kinds: tuple[shares.Kind, ...] = ("revoke", "delete")
    for kind in kinds:
        connect(world).shares.take("users", kind, USERS)
        connect(world).shares.take("jobs", kind, JOBS)
    admin.start(draft)
    csrf = others[0].csrf_headers()
    for response in (others[0].post("/api/me/revoke", headers=csrf), others[0].erase(csrf)):
        assert_problem(response, 503, "upstream_throttled")
        assert 1 <= int(response.headers["Retry-After"]) <= shares.WINDOW_SECONDS
    tokens = [other.get_token() for other in others[1:]]
    for other, action in zip(others[1:], ("block", "delete"), strict=True):
        Admin(admin.person).do("api", other, action)
    assert not [token for token in tokens if world.azure.check_token(token)["valid"]]
    assert (admin.status(draft)["state"], admin.results(draft)) == ("running", ["pending"])
    admin.cancel(draft)


def test_used_up_share_refuses_no_sweep(world: OwnAzure) -> None:
    """A row takes its sweeps of the share before it begins, so the other row does not begin."""
    admin, users = JobAdmin(world.new_admin().person), [world.new_user() for _ in range(2)]
    path = admin.draft(admin.select("block", [user.key for user in users]))
    connect(world).shares.take("jobs", "revoke", JOBS - REVOCATIONS)
    admin.start(path)
    admin.wait_until(path, lambda status: status["done"] == 1)
    blocked, other = sorted(users, key=lambda user: not admin.find(user.key)["Blocked"])
    in_progress = connect(world).issue_token(world.identity_of(blocked), ("chat",), 60)
    wait_until(lambda: not world.azure.check_token(in_progress.token)["valid"])
    admin.cancel(path)
    assert admin.audit(other.key) == [("identity-created", "done")]


def test_discards_count_against_the_users_share(world: OwnAzure) -> None:
    person = world.new_person().signed_in()
    connect(world).shares.take("users", "delete", USERS)
    world.azure.reset_calls()
    first = list[requests.Response]()
    request_first = partial(world.token_by_bearer, person)
    world.run_before("POST", "identities", person.account.object_id, lambda: first.append(request_first()))
    assert person.token().json()["user"] == first[0].json()["user"]
    calls = world.azure.count_calls("acs")
    assert (calls["create"], calls.get("delete", 0)) == (2, 0)


def test_processes_with_jobs_divide_their_pace(world: OwnAzure) -> None:
    with world.azure.in_environment():
        services = Services(Settings.from_env(world.settings | OWN_SETTINGS))
    jobs, actor = services.jobs, Actor(kind="operator", key="ada@laptop")
    for processes in (1, 2):
        services.job_worker.poll()
        for action, calls in (("delete", 1), ("block", REVOCATIONS)):
            first, second = (services.job_worker.take_turn(action, 0.0) for _ in range(2))
            seconds = calls * processes * shares.WINDOW_SECONDS / JOBS
            assert second - first == pytest.approx(seconds, rel=0.1)
        elsewhere = jobs.create(actor, "delete", [])
        assert jobs.save(replace(elsewhere, lease_until=datetime.now(UTC) + timedelta(seconds=40)))


def test_concurrent_revocations_share_a_call(world: OwnAzure) -> None:
    person = world.new_user()
    csrf, token = person.csrf_headers(), person.get_token()
    world.azure.reset_calls()
    began = time.monotonic()
    browsers = [person.at(person.url) for _ in range(32)]
    sends = [partial(browser.post, "/api/me/revoke", headers=csrf) for browser in browsers]
    responses = run_concurrently(sends)
    assert {response.status_code for response in responses} == {204}
    # Not those after blocks of other tests.
    revocations = sum(world.azure.calls_for(response).count("revoke") for response in responses)
    assert 1 <= revocations <= 2 + time.monotonic() - began
    assert world.azure.check_token(token)["valid"] is False


class Calls:
    """Stands in for the call to Communication Services: each waits until it may end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.started = list[float]()
        self.may_end = threading.Event()
        self._error = error

    def __call__(self, _: str) -> None:
        self.started.append(time.monotonic())
        assert self.may_end.wait(10)
        if self._error:
            raise self._error


def test_revocation_shares_only_calls_that_start_later() -> None:
    calls = Calls()
    revocations = Revocations(calls)
    with ThreadPoolExecutor(20) as pool:
        first = [pool.submit(revocations.revoke, "8:acs:x") for _ in range(6)]
        wait_until(lambda: len(calls.started) == 1)
        asked_at = time.monotonic()
        later = [pool.submit(revocations.revoke, "8:acs:x") for _ in range(6)]
        calls.may_end.set()
        for future in first + later:
            future.result()
    assert len(calls.started) == 2
    assert calls.started[1] > asked_at
    assert calls.started[1] - calls.started[0] >= INTERVAL_SECONDS


def test_failed_revocation_fails_for_all_callers() -> None:
    calls = Calls(UpstreamThrottled("Communication Services", "HTTP 429", "7"))
    calls.may_end.set()
    revocations, caught = Revocations(calls), list[UpstreamThrottled]()

    def revoke() -> None:
        with pytest.raises(UpstreamThrottled) as info:
            revocations.revoke("8:acs:x")
        caught.append(info.value)

    run_concurrently([revoke] * 5)
    assert [(error.reason, error.retry_after) for error in caught] == [("HTTP 429", "7")] * 5
    assert len({id(error) for error in caught}) == 5, "each caller adds to its own what it has done"
    assert len(calls.started) == 1


def test_failure_for_lack_of_time_is_not_shared() -> None:
    started = list[float]()

    def call(_: str) -> None:
        started.append(time.monotonic())
        if len(started) == 1:
            time.sleep(deadlines.seconds_left())
            raise UpstreamUnavailable("Communication Services", "no response in time")

    revocations = Revocations(call)

    def revoke_in_haste() -> None:
        with deadlines.request_budget("request", 0.5), pytest.raises(UpstreamUnavailable):
            revocations.revoke("8:acs:x")

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(revoke_in_haste)
        time.sleep(0.02)
        revocations.revoke("8:acs:x")
        leader.result()
    assert len(started) == 2


def test_shared_revocation_ends_with_its_request() -> None:
    calls = Calls()
    revocations = Revocations(calls)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(revocations.revoke, "8:acs:x")
        time.sleep(0.02)
        with deadlines.request_budget("request", 0.3), pytest.raises(UpstreamUnavailable):
            revocations.revoke("8:acs:x")
        calls.may_end.set()
        first.result()


def test_waiting_revocations_leave_threads_free() -> None:
    calls = Calls()
    revocations = Revocations(calls)

    def revoke() -> None:
        with shares.for_user():
            revocations.revoke("8:acs:x")

    with ThreadPoolExecutor(65) as pool:
        futures = [pool.submit(revoke) for _ in range(64)]
        # The first gives its place back when its call starts, perhaps before the last one asks.
        wait_until(lambda: sum(future.done() for future in futures) >= 63 - PLACES["users"])
        refused = [future for future in futures if future.done()]
        by_administrator = pool.submit(revocations.revoke, "8:acs:x")
        calls.may_end.set()
        assert all(isinstance(future.exception(), UpstreamThrottled) for future in refused)
        assert sum(future.exception() is None for future in futures) - PLACES["users"] in (0, 1)
        assert by_administrator.exception() is None


def test_administrator_shares_no_call_with_users() -> None:
    calls = Calls()
    calls.may_end.set()
    revocations = Revocations(calls)

    def revoke(for_user: bool) -> None:
        with shares.for_user(for_user):
            revocations.revoke("8:acs:x")

    run_concurrently([partial(revoke, number % 2 == 0) for number in range(10)])
    assert len(calls.started) == 2
