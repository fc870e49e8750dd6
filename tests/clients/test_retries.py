"""Both clients: refusals, rate limits, outages and concurrent callers."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from trusted_service_client import TokenRequestError, create_token_refresher

from tests.clients.javascript import REQUEST_TOKENS, run_client
from tests.support.concurrency import run_concurrently, timed
from tests.support.gate import Gate
from tests.support.http_server import QuietHandler, serving
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service

Outcome = dict[str, Any]
Refresh = Callable[..., list[Outcome]]
"""Requests `times` tokens at once from the service at `url`; returns tokens, or the members of errors."""


@pytest.fixture(params=["javascript", "python"])
def refresh(request: pytest.FixtureRequest, person: Person, access_token: str) -> Refresh:
    def run_javascript(url: str = person.url, times: int = 1, **options: int) -> list[Outcome]:
        inputs = {"serviceUrl": url, "accessToken": access_token, "times": times, "options": options}
        outcomes: list[Outcome] = run_client(person, REQUEST_TOKENS, **inputs)["outcomes"]
        return outcomes

    def run_python(url: str = person.url, times: int = 1, **options: int) -> list[Outcome]:
        lifetime = options.get("expiresInMinutes")
        refresher = create_token_refresher(url, lambda _: access_token, expires_in_minutes=lifetime)

        def get_outcome() -> Outcome:
            try:
                return {"token": refresher().token}
            except TokenRequestError as error:
                members = {"requestId": error.request_id, "retryAfter": error.retry_after}
                return {"status": error.status, "code": error.code} | members

        return run_concurrently([get_outcome] * times)

    return run_python if request.param == "python" else run_javascript


@pytest.fixture
def gate(service: Service) -> Iterator[Gate]:
    """A forwarder to the service, for breaking connections."""
    with Gate(service.port) as running:
        yield running


def test_refused_options_are_not_retried(refresh: Refresh) -> None:
    (error,) = refresh(expiresInMinutes=59)
    assert (error["status"], error["code"], error["retryAfter"]) == (400, "invalid_request", None)
    assert error["requestId"]


def test_concurrent_callers_share_one_request(azure: LocalAzure, refresh: Refresh) -> None:
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    azure.reset_calls()
    outcomes = refresh(times=10)
    assert len(outcomes) == 10
    assert len({outcome["token"] for outcome in outcomes}) == 1
    assert sum(azure.count_calls("acs").values()) == 1  # the create, which returns the first token too


def test_rate_limit_is_waited_out(azure: LocalAzure, settings: dict[str, str], refresh: Refresh) -> None:
    with Service(settings | {"RATE_LIMIT_TOKEN": "1 per 5 second"}) as strict_service:
        for _ in range(2):
            (outcome,) = refresh(strict_service.url)
            assert azure.check_token(outcome["token"])["valid"]
        assert '"status": 429' in strict_service.log()


@pytest.mark.parametrize(("status", "as_date"), [(429, False), (503, True)], ids=["seconds", "date"])
def test_retry_after_is_waited_out(azure: LocalAzure, refresh: Refresh, status: int, as_date: bool) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    azure.plant_fault("acs", "create", "status", status=status, retryAfter=date if as_date else "2")
    (outcome,), seconds = timed(refresh)
    assert azure.check_token(outcome["token"])["valid"]
    assert (1 if as_date else 2) <= seconds < 10


def test_request_is_tried_at_most_four_times(azure: LocalAzure, refresh: Refresh) -> None:
    azure.plant_fault("acs", "create", "status", status=503, retryAfter="0", times=None)
    azure.reset_calls()
    (error,) = refresh()
    assert (error["status"], error["code"]) == (503, "upstream_unavailable")
    assert azure.count_calls("acs") == {"create": 4}


def test_long_retry_after_is_left_to_the_app(azure: LocalAzure, refresh: Refresh) -> None:
    azure.plant_fault("acs", "create", "status", status=429, retryAfter="3600")
    (error,) = refresh()
    assert (error["code"], error["retryAfter"]) == ("upstream_throttled", 3600)


def test_broken_connection_is_retried_three_times(azure: LocalAzure, gate: Gate, refresh: Refresh) -> None:
    url = f"http://127.0.0.1:{gate.port}/api/?x=1"  # only its origin is used
    gate.hang_up(1)
    (outcome,) = refresh(url)
    assert azure.check_token(outcome["token"])["valid"]
    gate.hang_up(10)
    (error,), seconds = timed(lambda: refresh(url))
    assert (error["status"], error["code"]) == (None, None)
    assert 7 <= seconds < 14  # waits of 1, 2 and 4 s


def test_redirect_is_not_retried(service: Service, refresh: Refresh) -> None:
    class Handler(QuietHandler):
        """Redirects every request, as a gateway that requires a sign-in would."""

        def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
            self.respond(302, {}, ("Location", service.url + self.path))

    with serving(Handler) as url:
        (error,), seconds = timed(lambda: refresh(url))
    assert (error["status"], error["code"]) == (302, None)
    assert seconds < 3
