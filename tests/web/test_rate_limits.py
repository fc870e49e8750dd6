"""Rate limits: tokens per user, sign-ins per client address, counted in the process or in Redis."""

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from tests.support.admin_client import bearer, post_token
from tests.support.concurrency import run_concurrently, timed, wait_until
from tests.support.fake_redis import fake_redis
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.redis import Redis
from tests.support.service import Service, free_port

TOKENS, SIGN_INS = 3, 12
LIMITS = {"RATE_LIMIT_TOKEN": f"{TOKENS} per minute", "RATE_LIMIT_SIGN_IN": f"{SIGN_INS} per minute"}
MAX_SECONDS = 15.0
CLOCK_SECONDS = 2.0
"""Tolerance for the start of a window, which is in whole seconds and after the first call."""

Pair = tuple[Service, Service]


@pytest.fixture(scope="module")
def strict_service(settings: dict[str, str]) -> Iterator[Service]:
    """A service with tight limits and no proxy in front."""
    with Service(settings | LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def proxied(settings: dict[str, str]) -> Iterator[Callable[[int], Service]]:
    """The same behind one proxy, as on App Service, or behind two."""
    services = [Service(settings | LIMITS | {"TRUSTED_PROXY_HOPS": hops}) for hops in ("1", "2")]
    with services[0], services[1]:
        yield lambda hops: services[hops - 1]


@pytest.fixture(scope="module")
def users(new_person: Callable[..., Person], strict_service: Service) -> list[Person]:
    """Users signed in within the limit; the last one is the first user in another browser."""
    people = [new_person(at=strict_service).signed_in() for _ in range(4)]
    return [*people, people[0].in_new_browser()]


@pytest.fixture(scope="module")
def pair(settings: dict[str, str], service: Service, redis: Redis) -> Iterator[Pair]:
    """Two instances behind one proxy at one URL, which share hourly counts in Redis."""
    limits = {name: value.replace("minute", "hour") for name, value in LIMITS.items()}
    shared = {"PUBLIC_URL": service.url, "RATE_LIMIT_STORAGE_URI": redis.uri, "TRUSTED_PROXY_HOPS": "1"}
    with Service(settings | limits | shared) as first, Service(settings | limits | shared) as second:
        yield first, second


def start_sign_in(service: Service, address: str | None = None, **headers: str) -> requests.Response:
    """Start a sign-in in a new browser, with this address in X-Forwarded-For."""
    if address is not None:
        headers["X-Forwarded-For"] = address
    return requests.get(f"{service.url}/auth/sign-in", headers=headers, allow_redirects=False, timeout=30)


def use_up_sign_ins(services: Pair, address: str) -> list[int]:
    """Start one sign-in more than the limit, in turns, numbered in `address`; return the statuses."""
    numbers = range(1, SIGN_INS + 2)
    return [start_sign_in(services[number % 2], address.format(number)).status_code for number in numbers]


def assert_used_up(browsers: tuple[Person, Person], *, max_retry_after: int = 60) -> None:
    """Use up the token limit in alternating browsers, and check that both are refused then."""
    statuses = [browsers[number % 2].token().status_code for number in range(TOKENS)]
    assert statuses == [200] * TOKENS
    for browser in browsers:
        refused = browser.token()
        assert_problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= max_retry_after


def test_token_limit_is_per_user_not_address(users: list[Person]) -> None:
    limited, other = users[:2]
    assert_used_up((limited, users[-1]))  # in another session too
    # Another address does not help, and other routes are not limited.
    assert limited.token(csrf=limited.csrf_headers() | {"X-Forwarded-For": "203.0.113.9"}).status_code == 429
    assert other.token().status_code == 200


def test_retry_after_is_the_remaining_window(users: list[Person]) -> None:
    person = users[2]
    csrf = person.csrf_headers()
    started = time.monotonic()
    assert [person.token(csrf=csrf).status_code for _ in range(TOKENS)] == [200] * TOKENS
    for _ in range(2):
        before = time.monotonic() - started
        left = int(person.token(csrf=csrf).headers["Retry-After"])
        after = time.monotonic() - started
        assert 60 - after <= left <= 60 - before + CLOCK_SECONDS
        time.sleep(2 * CLOCK_SECONDS)


def test_longest_exhausted_limit_sets_retry_after(
    settings: dict[str, str], new_person: Callable[..., Person]
) -> None:
    with Service(settings | {"RATE_LIMIT_TOKEN": "4 per 20 seconds; 2 per 2 seconds"}) as service:
        person = new_person(at=service).signed_in()
        csrf, waits = person.csrf_headers(), list[float]()
        while len(waits) < 12 and max(waits, default=0) <= 2:
            response = person.token(csrf=csrf)
            waits.append(float(response.headers.get("Retry-After", 0)))
            assert response.status_code == (429 if waits[-1] else 200)
            time.sleep(0.3)
    assert waits.count(0) == 4, "a refused request is not counted by the longer limit"
    assert 10 < waits[-1] <= 20


def test_token_limit_distinguishes_tenants(settings: dict[str, str], azure: LocalAzure) -> None:
    tenants = [azure.get_account(f"{name}.example").tenant_id for name in ("bob@contoso", "guest@fabrikam")]
    members = {"name": "Twin", "objectId": str(uuid.uuid4())}
    with Service(settings | LIMITS | {"ENTRA_ALLOWED_TENANTS": ",".join(tenants)}) as service:
        statuses = []
        for tenant, times in zip(tenants, (TOKENS + 1, 1), strict=True):
            account = azure.put_account(f"{uuid.uuid4()}@{tenant}.example", tenantId=tenant, **members)
            person = Person(azure, service.url, account)
            statuses += [post_token(person, bearer(azure, person)).status_code for _ in range(times)]
    assert statuses == [200] * TOKENS + [429, 200]


def test_token_limit_counts_refused_and_parallel_requests(users: list[Person]) -> None:
    person = users[3]
    csrf = person.csrf_headers()
    browsers = [person.at(person.url) for _ in range(3 * TOKENS)]
    responses = run_concurrently([partial(browser.token, [], csrf=csrf) for browser in browsers])
    statuses = [response.status_code for response in responses]
    assert sorted(statuses) == [400] * TOKENS + [429] * (2 * TOKENS)


def test_sign_in_limit_ignores_forwarded_for(strict_service: Service, users: list[Person]) -> None:
    assert use_up_sign_ins((strict_service, strict_service), "198.51.100.{}")[-1] == 429
    limited = start_sign_in(strict_service, "192.0.2.1", Forwarded="for=192.0.2.2")
    assert limited.status_code == 429
    assert limited.headers["Content-Type"].startswith("text/html")
    assert limited.headers["Cache-Control"] == "no-store"
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    # The callback is limited too; signed-in users are not.
    assert users[0].get("/auth/callback?state=x").status_code == 429
    assert users[0].get("/").status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded_for", "same", "other"),
    [
        # App Service appends the port, which differs for each connection.
        (1, "203.0.113.7:{}", "203.0.113.7", "203.0.113.8:40000"),
        (1, "192.0.2.{0}, 203.0.113.20:{0}", "203.0.113.20", "203.0.113.20, 203.0.113.21"),
        # A dual-stack server sees IPv4 clients in this form; an IPv6 /64 network is one client.
        (1, "::ffff:198.51.100.77", "198.51.100.77", "::ffff:198.51.100.78"),
        (1, "[2001:db8:1:2::{0}]:{0}", "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"),
        (1, "[2001:db8:4:2::{}]", "[2001:db8:4:2::1]:1", "[2001:db8:4:3::1]"),
        # The client's own claim, the first proxy's entry, the second proxy's entry.
        (2, "192.0.2.{0}, 203.0.113.30:{0}, 10.0.0.{0}", "x, 203.0.113.30, x", "x, 203.0.113.31, x"),
        # One entry, although two proxies add two: the peer's address counts.
        (2, "203.0.113.{}", "203.0.113.99", "203.0.113.99, x"),
    ],
)
def test_sign_in_limit_uses_address_from_proxies(
    proxied: Callable[[int], Service], proxies: int, forwarded_for: str, same: str, other: str
) -> None:
    service = proxied(proxies)
    assert use_up_sign_ins((service, service), forwarded_for) == [302] * SIGN_INS + [429]
    assert start_sign_in(service, same).status_code == 429
    assert start_sign_in(service, other).status_code == 302


@pytest.mark.parametrize(
    "address",
    ["", "unknown", "_hidden", "a" * 4000, "1.2.3.4:x", "[::1", "::", "1.2.3.4:5:6", "fe80::1%eth0", ","],
)
def test_malformed_proxy_addresses_are_no_error(proxied: Callable[[int], Service], address: str) -> None:
    assert start_sign_in(proxied(1), address).status_code in (302, 429)


def test_other_forwarded_headers_change_no_link(proxied: Callable[[int], Service]) -> None:
    spoofed = dict.fromkeys(("Host", "X-Forwarded-Host", "X-Forwarded-Prefix"), "evil.example")
    response = start_sign_in(proxied(1), "203.0.113.50", **spoofed, **{"X-Forwarded-Proto": "https"})
    assert response.status_code == 302
    assert "evil" not in response.headers["Location"]


def test_unreachable_redis_is_no_internal_error(settings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (silent.getsockname()[1], free_port()):
            with Service(settings | {"RATE_LIMIT_STORAGE_URI": f"redis://127.0.0.1:{port}"}) as service:
                response, seconds = timed(partial(start_sign_in, service))
            assert response.status_code in (302, 503)
            assert seconds < MAX_SECONDS


def test_refusal_of_redis_is_logged_once(settings: dict[str, str], redis: Redis) -> None:
    def recovered() -> bool:
        start_sign_in(service)
        return "Rate limit storage recovered" in service.log()

    redis.client.config_set("maxmemory", 1)  # responds to PING, and refuses to count
    try:
        with Service(settings | {"RATE_LIMIT_STORAGE_URI": redis.uri}) as service:
            wait_until(recovered)
            for _ in range(3):
                start_sign_in(service)
            (event,) = [line for line in service.log().splitlines() if "rate_limits_counted_alone" in line]
    finally:
        redis.client.config_set("maxmemory", 0)
    assert json.loads(event)["reason"] == "OOM (OutOfMemoryError)"
    assert "unreachable" not in service.log()


def test_reason_of_redis_is_logged(settings: dict[str, str]) -> None:
    # pragma: allowlist nextline secret (opens nothing)
    password = "canary-of-redis"
    with fake_redis(b"-WRONGPASS no\r\n") as port:
        uri = f"redis://:{password}@127.0.0.1:{port}"
        with Service(settings | {"RATE_LIMIT_STORAGE_URI": uri}) as service:
            assert start_sign_in(service).status_code == 302
    (line,) = [line for line in service.log().splitlines() if "rate_limits_counted_alone" in line]
    assert json.loads(line)["reason"].startswith("WRONGPASS ")
    assert_not_logged(service, password)


def test_two_instances_share_counts(pair: Pair, person: Person) -> None:
    assert use_up_sign_ins(pair, "198.51.100.1:{}") == [302] * SIGN_INS + [429]
    assert [start_sign_in(running, "198.51.100.1:4712").status_code for running in pair] == [429, 429]
    assert start_sign_in(pair[1], "198.51.100.2:4711").status_code == 302
    person.signed_in()
    assert_used_up((person.at(pair[0].url), person.at(pair[1].url)), max_retry_after=3601)


def test_instances_count_alone_during_redis_outage(pair: Pair, redis: Redis) -> None:
    def counts_in_redis(running: Service, address: str) -> bool:
        return start_sign_in(running, address).status_code == 302 and redis.client.dbsize() != 0

    assert start_sign_in(pair[0], "198.51.100.3").status_code == 302
    redis.stop()
    for running in pair:
        # Each counts from zero, so each allows the full limit.
        outcomes = [timed(partial(start_sign_in, running, "198.51.100.3")) for _ in range(SIGN_INS + 1)]
        assert [response.status_code for response, _ in outcomes] == [302] * SIGN_INS + [429]
        assert max(seconds for _, seconds in outcomes) < MAX_SECONDS
    redis.start()
    for number, running in enumerate(pair):
        # An instance retries Redis at increasing intervals.
        wait_until(partial(counts_in_redis, running, f"198.51.100.{10 + number}"), 60)
        redis.client.flushdb()
    assert use_up_sign_ins(pair, "198.51.100.20") == [302] * SIGN_INS + [429]
    password = redis.uri.partition("@")[0].removeprefix("redis://:")
    for running in pair:
        assert_not_logged(running, password)
