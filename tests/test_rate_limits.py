"""How often: tokens by user, sign-ins by client address, and what cannot be pretended."""

import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service, free_port
from tests.support.together import run_together, timed

TOKENS, SIGN_INS = 3, 12
LIMITS = {"RATE_LIMIT_TOKEN": f"{TOKENS} per minute", "RATE_LIMIT_SIGN_IN": f"{SIGN_INS} per minute"}
LONGEST_WAIT = 61
"""Seconds until a window of a minute ends, rounded up."""
LIMIT_SECONDS = 15.0


@pytest.fixture(scope="module")
def strict_service(settings: dict[str, str]) -> Iterator[Service]:
    """A service with tight limits and no proxy in front."""
    with Service(settings | LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def proxied_service(settings: dict[str, str]) -> Iterator[Service]:
    """The same behind one proxy, as on App Service."""
    with Service(settings | LIMITS | {"TRUSTED_PROXY_HOPS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def twice_proxied_service(settings: dict[str, str]) -> Iterator[Service]:
    """The same behind two proxies."""
    with Service(settings | LIMITS | {"TRUSTED_PROXY_HOPS": "2"}) as running:
        yield running


@pytest.fixture(scope="module")
def newcomers(new_person: Callable[..., Person], strict_service: Service) -> list[Person]:
    """People who signed in there while the limit let them; the last is the third one in another browser."""
    people = [new_person(at=strict_service) for _ in range(4)]
    people.append(Person(people[2].azure, people[2].url, people[2].account))
    for person in people:
        assert person.sign_in().status_code == 302
    return people


def start_sign_in(service: Service, **headers: str) -> requests.Response:
    """Start a sign-in in a browser of its own."""
    return requests.get(f"{service.url}/auth/sign-in", headers=headers, allow_redirects=False, timeout=30)


def use_up_sign_ins(service: Service, forwarded_for: Callable[[int], str]) -> list[int]:
    """Start one sign-in more than the limit; the statuses. `forwarded_for` tells each header's value."""
    return [
        start_sign_in(service, **{"X-Forwarded-For": forwarded_for(number)}).status_code
        for number in range(SIGN_INS + 1)
    ]


def assert_rate_limited(answer: requests.Response) -> None:
    """Check the refusal of the token route."""
    assert_problem(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= LONGEST_WAIT


def test_token_limit_is_by_user_and_not_by_address(newcomers: list[Person]) -> None:
    greedy, modest = newcomers[:2]
    csrf = greedy.csrf_headers()
    assert [greedy.token(csrf=csrf).status_code for _ in range(TOKENS)] == [200] * TOKENS
    assert_rate_limited(greedy.token(csrf=csrf))
    # Another address does not help, another session of the same user neither; other routes are not meant.
    assert_rate_limited(greedy.token(csrf=csrf | {"X-Forwarded-For": "203.0.113.9"}))
    assert greedy.me()["user"]["objectId"] == greedy.account.object_id
    assert modest.token().status_code == 200


def test_token_limit_holds_in_another_session_of_the_user(newcomers: list[Person]) -> None:
    first, second = newcomers[2], newcomers[4]
    csrf = first.csrf_headers()
    assert [first.token(csrf=csrf).status_code for _ in range(TOKENS)] == [200] * TOKENS
    assert_rate_limited(second.token())


def test_token_limit_counts_refused_requests_and_parallel_ones(newcomers: list[Person]) -> None:
    person = newcomers[3]
    csrf = person.csrf_headers()
    browsers = [person.at(person.url) for _ in range(3 * TOKENS)]
    answers = run_together([partial(browser.token, [], csrf=csrf) for browser in browsers])
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [400] * TOKENS + [429] * (2 * TOKENS)


def test_sign_in_limit_is_by_address_whatever_x_forwarded_for_says(
    strict_service: Service, newcomers: list[Person]
) -> None:
    statuses = use_up_sign_ins(strict_service, lambda number: f"198.51.100.{number}")
    assert statuses[-1] == 429
    limited = start_sign_in(strict_service, **{"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.2"})
    assert limited.status_code == 429
    assert limited.headers["Content-Type"].startswith("text/html")
    assert limited.headers["Cache-Control"] == "no-store"
    assert 1 <= int(limited.headers["Retry-After"]) <= LONGEST_WAIT
    # The callback counts too; who is signed in already is not held up.
    callback = requests.get(f"{strict_service.url}/auth/callback?state=x", allow_redirects=False, timeout=10)
    assert callback.status_code == 429
    assert newcomers[0].get("/").status_code == 200


def test_sign_in_limit_behind_a_proxy_is_by_the_address_that_it_reports(proxied_service: Service) -> None:
    # App Service adds the port, which is another one for each connection.
    statuses = use_up_sign_ins(proxied_service, lambda number: f"203.0.113.7:{40_000 + number}")
    assert statuses == [302] * SIGN_INS + [429]
    assert start_sign_in(proxied_service, **{"X-Forwarded-For": "203.0.113.7"}).status_code == 429
    assert start_sign_in(proxied_service, **{"X-Forwarded-For": "203.0.113.8:40000"}).status_code == 302


def test_sign_in_limit_behind_a_proxy_believes_only_its_own_entry(proxied_service: Service) -> None:
    statuses = use_up_sign_ins(proxied_service, lambda number: f"192.0.2.{number}, 203.0.113.20:{number + 1}")
    assert statuses[-1] == 429


def test_sign_in_limit_behind_two_proxies_is_by_what_the_first_one_reports(
    twice_proxied_service: Service,
) -> None:
    # What stands left of that is the client's own invention, what stands right of it the second proxy's word.
    statuses = use_up_sign_ins(
        twice_proxied_service, lambda number: f"192.0.2.{number}, 203.0.113.30:{number + 1}, 10.0.0.{number}"
    )
    assert statuses == [302] * SIGN_INS + [429]
    other = "203.0.113.30, 203.0.113.31:1, 10.0.0.1"
    assert start_sign_in(twice_proxied_service, **{"X-Forwarded-For": other}).status_code == 302


def test_sign_in_limit_counts_by_the_peer_where_a_proxy_says_too_little(
    twice_proxied_service: Service,
) -> None:
    # One entry where two proxies must have left one each: it has not come through both of them.
    statuses = use_up_sign_ins(twice_proxied_service, lambda number: f"203.0.113.{40 + number}")
    assert statuses[-1] == 429


def test_sign_in_limit_tells_ipv4_clients_apart_behind_a_server_of_both(proxied_service: Service) -> None:
    statuses = use_up_sign_ins(proxied_service, lambda _number: "::ffff:198.51.100.77")
    assert statuses[-1] == 429
    assert start_sign_in(proxied_service, **{"X-Forwarded-For": "198.51.100.77"}).status_code == 429
    assert start_sign_in(proxied_service, **{"X-Forwarded-For": "::ffff:198.51.100.78"}).status_code == 302


def test_sign_in_limit_counts_an_ipv6_network_as_one_client(proxied_service: Service) -> None:
    statuses = use_up_sign_ins(proxied_service, lambda number: f"[2001:db8:1:2::{number + 1:x}]:{number + 1}")
    assert statuses[-1] == 429
    assert start_sign_in(proxied_service, **{"X-Forwarded-For": "2001:db8:1:2:ffff::1"}).status_code == 429
    assert start_sign_in(proxied_service, **{"X-Forwarded-For": "2001:db8:1:3::1"}).status_code == 302


@pytest.mark.parametrize(
    "address",
    ["", "unknown", "_hidden", "a" * 4000, "1.2.3.4:x", "[::1", "::", "1.2.3.4:5:6", "fe80::1%eth0", ","],
)
def test_odd_addresses_from_the_proxy_are_no_error(proxied_service: Service, address: str) -> None:
    assert start_sign_in(proxied_service, **{"X-Forwarded-For": address}).status_code in (302, 429)


def test_other_forwarded_headers_change_no_link(proxied_service: Service) -> None:
    spoofed = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/evil",
    }
    answer = start_sign_in(
        proxied_service, **spoofed, **{"X-Forwarded-For": "203.0.113.50", "Host": "evil.example"}
    )
    assert answer.status_code == 302
    assert "evil" not in answer.headers["Location"]


def test_counter_that_cannot_be_reached_is_no_defect_of_ours(settings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = (silent.getsockname()[1], free_port())
        services = [
            Service(settings | {"RATE_LIMIT_STORAGE_URI": f"redis://127.0.0.1:{port}"}) for port in ports
        ]
        try:
            run_together([service.start for service in services])
            outcomes = run_together([partial(timed, partial(start_sign_in, service)) for service in services])
        finally:
            run_together([service.stop for service in services])
    for answer, seconds in outcomes:
        assert answer.status_code in (302, 503)
        assert seconds < LIMIT_SECONDS
