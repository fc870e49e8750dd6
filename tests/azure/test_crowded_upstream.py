"""Bulkhead: more requests than threads wait for a hanging Communication Services; others are not delayed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import requests

from tests.support.concurrency import timed
from tests.support.local_azure import LocalAzure
from tests.support.person import CALL_SECONDS, Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from trusted_service.azure import deadlines

Timed = tuple[requests.Response, float]

AT_ONCE = 140
"""More than gunicorn's 128 configured threads."""
LIMIT_SECONDS = 15.0
SOON_SECONDS = deadlines.CALL_SECONDS - 1
"""Before any hanging call times out."""


@dataclass(frozen=True)
class Crowd:
    """The responses to token requests, and to other requests during them."""

    tokens: list[Timed]
    others: dict[str, list[Timed]]
    next_token: Timed


@pytest.fixture(scope="module")
def two_workers(settings: dict[str, str]) -> Iterator[Service]:
    with Service(settings, workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def crowd(azure: LocalAzure, new_person: Callable[..., Person], two_workers: Service) -> Crowd:
    """Send all token requests at once, and other requests until the last of them has a response."""
    person = new_person(at=two_workers)
    assert person.sign_in().status_code == 302
    csrf = person.csrf_headers()
    assert person.token(csrf=csrf).status_code == 200
    azure.plant_fault("acs", "issue", "hang", times=None)
    others: dict[str, list[Timed]] = {"/healthz": [], "/": [], "/api/me": []}

    def request_token() -> requests.Response:
        browser = person.at(person.url)
        with browser.http:
            return browser.token(csrf=csrf)

    def get(path: str) -> requests.Response:
        # A new connection each time, like a probe: an open one is already assigned to a worker.
        cookies = person.http.cookies.get_dict()
        return requests.get(person.url + path, cookies=cookies, timeout=CALL_SECONDS)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = [pool.submit(timed, request_token) for _ in range(AT_ONCE)]
        while not all(future.done() for future in pending):
            for path, responses in others.items():
                responses.append(timed(partial(get, path)))
    azure.clear_faults()
    return Crowd([future.result() for future in pending], others, timed(request_token))


def test_token_requests_fail_in_time(crowd: Crowd) -> None:
    for response, seconds in crowd.tokens:
        assert_problem(response, 503, "upstream_unavailable")
        assert seconds < LIMIT_SECONDS
    # Requests beyond the bulkhead fail at once.
    assert sum(seconds < SOON_SECONDS for _, seconds in crowd.tokens) >= AT_ONCE - 2 * 40


@pytest.mark.parametrize("path", ["/healthz", "/", "/api/me"])
def test_other_requests_are_not_delayed(crowd: Crowd, path: str) -> None:
    assert crowd.others[path]
    for response, seconds in crowd.others[path]:
        assert response.status_code == 200
        assert seconds < SOON_SECONDS


def test_next_token_is_not_delayed(crowd: Crowd) -> None:
    response, seconds = crowd.next_token
    assert response.status_code == 200
    assert seconds < SOON_SECONDS
