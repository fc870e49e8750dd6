"""The cache that is refreshed in the background, and serves a stale value while a refresh fails."""

import threading
from dataclasses import dataclass, field

import pytest

from tests.support.concurrency import run_concurrently, wait_until
from trusted_service.azure.shared_call import MAX_WAITERS
from trusted_service.entra.cache import Cache
from trusted_service.errors import UpstreamUnavailable


@dataclass
class Upstream:
    """An upstream with a settable clock; each value is the number of calls so far."""

    now: float = 0.0
    fails: bool = False
    calls: int = 0
    responds: threading.Event = field(default_factory=threading.Event)

    def fetch(self) -> int:
        self.calls += 1
        self.responds.wait(10)
        if self.fails:
            raise UpstreamUnavailable("Entra ID", "out of order")
        return self.calls


@pytest.fixture
def upstream() -> Upstream:
    upstream = Upstream()
    upstream.responds.set()
    return upstream


@pytest.fixture
def cache(upstream: Upstream) -> Cache[int]:
    return Cache(upstream.fetch, clock=lambda: upstream.now)


def get(cache: Cache[int]) -> int | str:
    """Return the value, or the reason why there is none."""
    try:
        return cache.get()
    except UpstreamUnavailable as error:
        return error.reason


def wait_for_refresh() -> None:
    wait_until(lambda: all(thread.name != "shared-call" for thread in threading.enumerate()))


def test_value_is_fetched_once_an_hour(upstream: Upstream, cache: Cache[int]) -> None:
    assert cache.value is None
    for upstream.now, served, expected in ((0, 1, 1), (3599, 1, 1), (3601, 1, 2), (3700, 2, 2)):
        if upstream.now == 3601:
            upstream.responds.clear()
        assert get(cache) == served, "nobody waits for a refresh"
        upstream.responds.set()
        wait_for_refresh()
        assert cache.value == expected


def test_stale_value_serves_for_24_hours(upstream: Upstream, cache: Cache[int]) -> None:
    get(cache)
    upstream.fails = True
    for upstream.now in (3601, 40_000, 86_399):
        assert get(cache) == 1
        wait_for_refresh()
    upstream.now = 86_401
    assert get(cache) == "out of order"
    upstream.now, upstream.fails = 86_402, False
    assert get(cache) == upstream.calls


def test_failed_refresh_is_retried_every_minute(upstream: Upstream, cache: Cache[int]) -> None:
    get(cache)
    upstream.fails = True
    for upstream.now, calls in ((3601, 2), (3630, 2), (3662, 3), (3700, 3)):
        assert get(cache) == 1
        wait_for_refresh()
        assert upstream.calls == calls


def test_few_requests_wait_for_a_silent_fetch(upstream: Upstream, cache: Cache[int]) -> None:
    upstream.responds.clear()
    threading.Timer(2, upstream.responds.set).start()
    results = run_concurrently([lambda: get(cache)] * 40)
    assert results.count(1) == MAX_WAITERS
    assert results.count("too many calls wait for it already") == 40 - MAX_WAITERS
    assert upstream.calls == 1
    assert run_concurrently([lambda: get(cache)] * 40) == [1] * 40


def test_failing_fetches_of_requests_are_limited(upstream: Upstream, cache: Cache[int]) -> None:
    upstream.fails = True
    assert {get(cache) for _ in range(200)} == {"out of order"}
    assert upstream.calls <= 62
    upstream.fails = False
    cache.refresh_if_due()  # as the background does
    wait_for_refresh()
    assert get(cache) == upstream.calls


def test_doubt_refreshes_every_30_seconds(upstream: Upstream, cache: Cache[int]) -> None:
    get(cache)
    for upstream.now, expected in ((1, 2), (2, 2), (30, 2), (31, 3), (32, 3), (61, 4)):
        assert cache.refresh_in_doubt() == expected
    upstream.responds.clear()
    upstream.now = 91  # all that come during a refresh share its result
    threading.Timer(0.3, upstream.responds.set).start()
    assert run_concurrently([lambda: cache.refresh_in_doubt()] * 20) == [5] * 20
