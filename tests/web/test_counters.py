"""The counts of rate limits in memory, which many threads share."""

import threading
from functools import partial

from limits import RateLimitItemPerSecond
from limits.strategies import FixedWindowRateLimiter

from tests.support.concurrency import run_concurrently, wait_until
from trusted_service.web.security.rate_limits import FEWEST_SWEPT, Counters

THREADS, HITS = 16, 50


def test_counts_of_many_threads_are_exact() -> None:
    counters, threads = Counters(), set(threading.enumerate())

    def hit() -> list[int]:
        return [counters.incr("key", 60) for _ in range(HITS)]

    counts = [count for one in run_concurrently([hit] * THREADS) for count in one]
    assert sorted(counts) == list(range(1, THREADS * HITS + 1))
    assert set(threading.enumerate()) == threads


def test_window_ends() -> None:
    counters = Counters()
    limiter, limit = FixedWindowRateLimiter(counters), RateLimitItemPerSecond(2)
    assert [limiter.hit(limit, "user") for _ in range(3)] == [True, True, False]
    assert limiter.get_window_stats(limit, "user").remaining == 0
    wait_until(partial(limiter.test, limit, "user"))
    assert counters.get(limit.key_for("user")) == 0
    assert limiter.hit(limit, "user")


def test_ended_windows_are_forgotten() -> None:
    counters = Counters()
    for number in range(3 * FEWEST_SWEPT):
        counters.incr(f"{number}", 0)
    counters.incr("kept", 60)
    assert counters.reset() <= FEWEST_SWEPT + 1


def test_one_key_is_cleared() -> None:
    counters = Counters()
    for key in ("one", "other"):
        counters.incr(key, 60)
    counters.clear("one")
    assert [counters.get(key) for key in ("one", "other")] == [0, 1]
    assert counters.check()
