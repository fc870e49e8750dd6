"""Rate limits that instances count together in a real Redis, and each for itself while that is away."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from tests.support.log import assert_not_logged
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.redis import Redis
from tests.support.service import Service
from tests.support.together import run_together, timed, wait_until

TOKENS, SIGN_INS = 4, 10
LIMIT_SECONDS = 15.0

Pair = tuple[Service, Service]


@pytest.fixture(scope="module")
def counter() -> Iterator[Redis]:
    with Redis() as running:
        yield running


@pytest.fixture(scope="module")
def pair(settings: dict[str, str], service: Service, counter: Redis) -> Iterator[Pair]:
    """Two instances behind one proxy and one address, which count in the same Redis."""
    limits = {"RATE_LIMIT_TOKEN": f"{TOKENS} per hour", "RATE_LIMIT_SIGN_IN": f"{SIGN_INS} per hour"}
    shared = {"PUBLIC_URL": service.url, "RATE_LIMIT_STORAGE_URI": counter.uri, "TRUSTED_PROXY_HOPS": "1"}
    services = tuple(Service(settings | limits | shared) for _ in range(2))
    try:
        run_together([running.start for running in services])
        yield services[0], services[1]
    finally:
        run_together([running.stop for running in services])


def start_sign_in(service: Service, address: str) -> int:
    """The status of a sign-in that starts at this address."""
    headers = {"X-Forwarded-For": address}
    return requests.get(
        f"{service.url}/auth/sign-in", headers=headers, allow_redirects=False, timeout=30
    ).status_code


def counts_there(service: Service, counter: Redis, address: str) -> bool:
    """Whether a sign-in at this instance is counted in Redis."""
    return start_sign_in(service, address) == 302 and counter.client.dbsize() != 0


def test_two_instances_count_sign_ins_together(pair: Pair) -> None:
    first, second = pair
    statuses = [start_sign_in(pair[number % 2], "198.51.100.1:4711") for number in range(SIGN_INS)]
    assert statuses == [302] * SIGN_INS
    assert [start_sign_in(running, "198.51.100.1:4712") for running in (first, second)] == [429, 429]
    assert start_sign_in(second, "198.51.100.2:4711") == 302


def test_two_instances_count_tokens_of_a_user_together(pair: Pair, new_person: Callable[..., Person]) -> None:
    person = new_person()
    assert person.sign_in().status_code == 302
    csrf = person.csrf_headers()
    browsers = [person.at(running.url) for running in pair]
    statuses = [browsers[number % 2].token(csrf=csrf).status_code for number in range(TOKENS)]
    assert statuses == [200] * TOKENS
    for browser in browsers:
        refused = browser.token(csrf=csrf)
        assert_problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= 3601


def test_counter_that_goes_away_leaves_each_instance_counting_and_comes_back(
    pair: Pair, counter: Redis
) -> None:
    address = "198.51.100.3"
    assert start_sign_in(pair[0], address) == 302
    counter.stop()
    for running in pair:
        # Both count from zero, so each lets through what both together should.
        outcomes = [timed(partial(start_sign_in, running, address)) for _ in range(SIGN_INS + 1)]
        assert [status for status, _ in outcomes] == [302] * SIGN_INS + [429]
        assert max(seconds for _, seconds in outcomes) < LIMIT_SECONDS
    counter.start()
    for number, running in enumerate(pair):
        # An instance looks for it again after a while, less and less often.
        wait_until(partial(counts_there, running, counter, f"198.51.100.{10 + number}"), 60)
        counter.client.flushdb()
    statuses = [start_sign_in(pair[number % 2], "198.51.100.20") for number in range(SIGN_INS + 1)]
    assert statuses == [302] * SIGN_INS + [429]


def test_counter_password_is_not_logged(pair: Pair, counter: Redis) -> None:
    password = counter.uri.partition("@")[0].removeprefix("redis://:")
    for running in pair:
        assert_not_logged(running, password)
