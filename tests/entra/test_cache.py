"""The cache that serves a stale value while a refresh fails."""

from dataclasses import dataclass

import pytest

from trusted_service.entra.cache import Cache
from trusted_service.errors import UpstreamUnavailable


@dataclass
class Upstream:
    """An upstream with a settable clock; each value is the number of calls so far."""

    now: float = 0.0
    fails: bool = False
    calls: int = 0

    def fetch(self) -> int:
        self.calls += 1
        if self.fails:
            raise UpstreamUnavailable("Entra ID", "out of order")
        return self.calls


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def cache(upstream: Upstream) -> Cache[int]:
    return Cache(upstream.fetch, clock=lambda: upstream.now)


def test_value_is_fetched_once_an_hour(upstream: Upstream, cache: Cache[int]) -> None:
    assert cache.value is None
    for upstream.now, expected in ((0, 1), (3599, 1), (3601, 2), (3700, 2)):
        assert cache.get() == expected
    assert cache.value == 2


def test_stale_value_serves_for_24_hours(upstream: Upstream, cache: Cache[int]) -> None:
    cache.get()
    upstream.fails = True
    for upstream.now in (3601, 40_000, 86_399):
        assert cache.get() == 1
    upstream.now = 86_401
    with pytest.raises(UpstreamUnavailable):
        cache.get()
    upstream.now, upstream.fails = 86_402, False
    assert cache.get() == upstream.calls


def test_failed_refresh_is_retried_every_minute(upstream: Upstream, cache: Cache[int]) -> None:
    cache.get()
    upstream.fails = True
    for upstream.now, calls in ((3601, 2), (3630, 2), (3662, 3), (3700, 3)):
        assert cache.get() == 1
        assert upstream.calls == calls
