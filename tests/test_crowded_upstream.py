"""More requests wait for a silent Communication Services than there are threads: nobody else notices."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import requests

from tests.support.local_azure import LocalAzure
from tests.support.person import CALL_SECONDS, Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.together import timed
from trusted_service import upstream

Timed = tuple[requests.Response, float]

AT_ONCE = 140
"""More than the 128 threads of a gunicorn as we configure it."""
LIMIT_SECONDS = 15.0
SOON_SECONDS = upstream.CALL_SECONDS - 1
"""Before any call that hangs has used up its time."""


@dataclass(frozen=True)
class Crowd:
    """What everybody was answered: who asked for a token, and who looked at something else meanwhile."""

    tokens: list[Timed]
    others: dict[str, list[Timed]]
    next_token: Timed


@pytest.fixture(scope="module")
def two_workers(settings: dict[str, str]) -> Iterator[Service]:
    with Service(settings, workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def crowd(azure: LocalAzure, new_person: Callable[..., Person], two_workers: Service) -> Crowd:
    """Let them all ask at once, and look at other pages until the last one has an answer."""
    person = new_person(at=two_workers)
    assert person.sign_in().status_code == 302
    csrf = person.csrf_headers()
    assert person.token(csrf=csrf).status_code == 200
    azure.plant_fault("acs", "issue", "hang", times=None)
    others: dict[str, list[Timed]] = {"/healthz": [], "/": [], "/api/me": []}

    def ask() -> requests.Response:
        browser = person.at(person.url)
        with browser.http:
            return browser.token(csrf=csrf)

    def look(path: str) -> requests.Response:
        # A connection of its own each time, as a probe has: what is kept open has found its worker already.
        cookies = person.http.cookies.get_dict()
        return requests.get(person.url + path, cookies=cookies, timeout=CALL_SECONDS)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asking = [pool.submit(timed, ask) for _ in range(AT_ONCE)]
        while not all(future.done() for future in asking):
            for path, looks in others.items():
                looks.append(timed(partial(look, path)))
    azure.clear_faults()
    return Crowd([future.result() for future in asking], others, timed(ask))


def test_every_token_request_is_answered_in_time(crowd: Crowd) -> None:
    for answer, seconds in crowd.tokens:
        assert_problem(answer, 503, "upstream_unavailable")
        assert seconds < LIMIT_SECONDS
    # Who would only have added to the crowd does not wait for what nobody gets.
    assert sum(seconds < SOON_SECONDS for _, seconds in crowd.tokens) >= AT_ONCE - 2 * 40


@pytest.mark.parametrize("path", ["/healthz", "/", "/api/me"])
def test_what_needs_no_communication_services_is_answered_soon(crowd: Crowd, path: str) -> None:
    assert crowd.others[path]
    for answer, seconds in crowd.others[path]:
        assert answer.status_code == 200
        assert seconds < SOON_SECONDS


def test_next_token_after_the_silence_comes_at_once(crowd: Crowd) -> None:
    answer, seconds = crowd.next_token
    assert answer.status_code == 200
    assert seconds < SOON_SECONDS
