"""Bulkhead: more requests than threads wait for a hanging Communication Services; others are not delayed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import requests

from tests.support.concurrency import Timed, crowd, timed
from tests.support.local_azure import LocalAzure
from tests.support.person import CALL_SECONDS, Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from trusted_service.azure import deadlines

AT_ONCE = 140
"""More than gunicorn's 128 configured threads."""
PATHS = ("/healthz", "/", "/api/me")
LIMIT_SECONDS = 15.0
SOON_SECONDS = deadlines.CALL_SECONDS - 1
"""Before any hanging call times out."""


@dataclass(frozen=True)
class Crowd:
    """The responses to token requests, and to other requests during them."""

    tokens: list[Timed[requests.Response]]
    others: dict[str, list[Timed[requests.Response]]]
    next_token: Timed[requests.Response]


@pytest.fixture(scope="module")
def two_workers(settings: dict[str, str]) -> Iterator[Service]:
    with Service(settings, workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def crowded(azure: LocalAzure, new_person: Callable[..., Person], two_workers: Service) -> Crowd:
    """Send all token requests at once, and other requests until the last of them has a response."""
    person = new_person(at=two_workers)
    assert person.sign_in().status_code == 302
    csrf = person.csrf_headers()
    assert person.token(csrf=csrf).status_code == 200
    azure.plant_fault("acs", "issue", "hang", times=None)

    def request_token(_number: int) -> requests.Response:
        browser = person.at(person.url)
        with browser.http:
            return browser.token(csrf=csrf)

    def get(path: str) -> requests.Response:
        # A new connection each time, like a probe: an open one is already assigned to a worker.
        cookies = person.http.cookies.get_dict()
        return requests.get(person.url + path, cookies=cookies, timeout=CALL_SECONDS)

    tokens, *others = crowd(request_token, AT_ONCE, [partial(get, path) for path in PATHS])
    azure.clear_faults()
    return Crowd(tokens, dict(zip(PATHS, others, strict=True)), timed(partial(request_token, 0)))


def test_token_requests_fail_in_time(crowded: Crowd) -> None:
    for response, seconds in crowded.tokens:
        assert_problem(response, 503, "upstream_unavailable")
        assert seconds < LIMIT_SECONDS
    # Requests beyond the bulkhead fail at once.
    assert sum(seconds < SOON_SECONDS for _, seconds in crowded.tokens) >= AT_ONCE - 2 * 40


@pytest.mark.parametrize("path", PATHS)
def test_other_requests_are_not_delayed(crowded: Crowd, path: str) -> None:
    assert crowded.others[path]
    for response, seconds in crowded.others[path]:
        assert response.status_code == 200
        assert seconds < SOON_SECONDS


def test_next_token_is_not_delayed(crowded: Crowd) -> None:
    response, seconds = crowded.next_token
    assert response.status_code == 200
    assert seconds < SOON_SECONDS
