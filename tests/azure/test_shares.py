"""Users and jobs leave room for administrators at Communication Services, whose own limits are in force."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.support.admin_client import Admin
from tests.support.concurrency import repeat, run_concurrently, wait_until
from tests.support.jobs import JobAdmin
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.problems import assert_problem
from tests.support.redis import Redis
from tests.support.settings import OWN_SETTINGS
from trusted_service.azure import deadlines, shares, transport
from trusted_service.azure.communication import Communication
from trusted_service.azure.revocations import INTERVAL_SECONDS, PLACES, Revocations
from trusted_service.errors import UpstreamThrottled, UpstreamUnavailable
from trusted_service.settings import Settings

SHARE = int(shares.CALLS * shares.SHARE)
THREADS = 8
LOOP_SECONDS = 4.0


@pytest.fixture(scope="module")
def world(redis: Redis) -> Iterator[OwnAzure]:
    """A service without limits on users, which shares its counts with others."""
    with own_azure({"RATE_LIMIT_STORAGE_URI": redis.uri}) as running:
        yield running


@pytest.fixture(autouse=True)
def _limits(world: OwnAzure, redis: Redis) -> None:
    """Everybody begins to count, from zero."""
    world.azure.turn_limits(True)
    redis.client.flushdb()


def connect(world: OwnAzure, **settings: str) -> Communication:
    """The client of another process."""
    with world.azure.in_environment():
        session = transport.new_session(64)
        return Communication(Settings.from_env(world.settings | OWN_SETTINGS | settings), None, session)


def use(communication: Communication, kind: str, ids: Sequence[str], *, shared: bool) -> list[str]:
    """Revoke or delete each, for a user or an administrator; return the `Retry-After` of refusals."""

    def call(acs_user_id: str) -> str:
        with shares.shared(shared):
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
    ids = new_ids(world, SHARE + 50)
    refused = use(communication, kind, ids, shared=True)
    assert len(refused) == 50
    assert all(1 <= int(seconds) <= shares.WINDOW_SECONDS for seconds in refused)
    assert use(communication, kind, ids[: shares.CALLS - SHARE - 50], shared=False) == []
    assert world.azure.count_calls("acs")[kind] >= shares.CALLS - 50


def test_processes_share_counts_in_redis_else_divide(world: OwnAzure, redis: Redis) -> None:
    ids, (first, second) = new_ids(world, SHARE + 20), (connect(world) for _ in range(2))
    assert use(first, "delete", ids[:200], shared=True) == []
    assert len(use(second, "delete", ids[200:], shared=True)) == 20
    second.shares.processes = 2  # of this instance: without Redis each counts alone
    world.azure.turn_limits(True)
    redis.stop()
    try:
        assert len(use(second, "delete", ids[: SHARE // 2 + 5], shared=True)) == 5
    finally:
        redis.start()


def test_administrator_blocks_while_users_loop(world: OwnAzure) -> None:
    """Users and jobs of other instances have used up their share and a little more."""
    admin, targets = world.new_admin(), [world.new_user() for _ in range(4)]
    tokens = [target.get_token() for target in targets]
    noisy = [world.new_user() for _ in range(THREADS)]
    sends = [partial(user.post, "/api/me/revoke", headers=user.csrf_headers()) for user in noisy]
    use(connect(world), "revoke", new_ids(world, 400), shared=False)

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
    for kind in ("revoke", "delete"):
        use(connect(world), kind, new_ids(world, SHARE), shared=True)
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


def test_concurrent_revocations_share_a_call(world: OwnAzure) -> None:
    person = world.new_user()
    csrf, token = person.csrf_headers(), person.get_token()
    world.azure.reset_calls()
    began = time.monotonic()
    browsers = [person.at(person.url) for _ in range(32)]
    sends = [partial(browser.post, "/api/me/revoke", headers=csrf) for browser in browsers]
    assert {response.status_code for response in run_concurrently(sends)} == {204}
    assert world.azure.count_calls("acs")["revoke"] <= 2 + time.monotonic() - began
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
        wait_until(lambda: len(calls.started) == 2)  # although the first has not ended
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
        with shares.shared():
            revocations.revoke("8:acs:x")

    with ThreadPoolExecutor(65) as pool:
        futures = [pool.submit(revoke) for _ in range(64)]
        wait_until(lambda: sum(future.done() for future in futures) == 64 - PLACES["users"])
        refused = [future for future in futures if future.done()]
        by_administrator = pool.submit(revocations.revoke, "8:acs:x")
        calls.may_end.set()
        assert all(isinstance(future.exception(), UpstreamThrottled) for future in refused)
        assert sum(future.exception() is None for future in futures) == PLACES["users"]
        assert by_administrator.exception() is None


def test_administrator_shares_no_call_with_users() -> None:
    calls = Calls()
    calls.may_end.set()
    revocations = Revocations(calls)

    def revoke(shared: bool) -> None:
        with shares.shared(shared):
            revocations.revoke("8:acs:x")

    run_concurrently([partial(revoke, number % 2 == 0) for number in range(10)])
    assert len(calls.started) == 2
