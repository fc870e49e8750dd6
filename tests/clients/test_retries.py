"""Both clients: refusals, rate limits, outages, front ends, wrong addresses and concurrent callers."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from trusted_service_client import TokenRequestError, create_token_refresher

from tests.clients.front_end import Answer, front_end
from tests.clients.javascript import REQUEST_TOKENS, run_client
from tests.support.concurrency import run_concurrently, timed
from tests.support.gate import Gate, TlsFront
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service, free_port

Outcome = dict[str, Any]
Refresh = Callable[..., list[Outcome]]
"""Requests `times` tokens at once from the service at `url`; returns tokens, or the members of errors."""


@pytest.fixture(params=["javascript", "python"])
def refresh(request: pytest.FixtureRequest, person: Person, access_token: str) -> Refresh:
    def run_javascript(
        url: str = person.url, times: int = 1, returned: object = access_token, **options: int
    ) -> list[Outcome]:
        inputs = {"serviceUrl": url, "accessToken": returned, "times": times, "options": options}
        outcomes: list[Outcome] = run_client(person, REQUEST_TOKENS, **inputs)["outcomes"]
        return outcomes

    def run_python(
        url: str = person.url, times: int = 1, returned: Any = access_token, **options: int
    ) -> list[Outcome]:
        lifetime = options.get("expiresInMinutes")
        refresher = create_token_refresher(url, lambda _: returned, expires_in_minutes=lifetime)

        def get_outcome() -> Outcome:
            try:
                return {"token": refresher().token}
            except TokenRequestError as error:
                members = {
                    "requestId": error.request_id,
                    "retryAfter": error.retry_after,
                    "message": str(error),
                }
                return {"status": error.status, "code": error.code} | members
            except (TypeError, ValueError) as error:
                return {"name": type(error).__name__, "message": str(error)}

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
    assert azure.count_tokens() == 1  # the create, which returns the first token too


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
    assert azure.count_tokens() == 4


def test_long_retry_after_is_left_to_the_app(azure: LocalAzure, refresh: Refresh) -> None:
    azure.plant_fault("acs", "create", "status", status=429, retryAfter="3600")
    (error,) = refresh()
    assert (error["code"], error["retryAfter"]) == ("upstream_throttled", 3600)


def test_broken_connection_is_retried_three_times(azure: LocalAzure, gate: Gate, refresh: Refresh) -> None:
    url = f"http://127.0.0.1:{gate.port}/api/"  # only its origin is used
    gate.hang_up(1)
    (outcome,) = refresh(url)
    assert azure.check_token(outcome["token"])["valid"]
    gate.hang_up(10)
    (error,), seconds = timed(lambda: refresh(url))
    assert (error["status"], error["code"]) == (None, None)
    assert 7 <= seconds < 14  # waits of 1, 2 and 4 s


TOKEN = json.dumps({"token": "opaque", "expiresOn": "2100-01-01T00:00:00Z"}).encode()
PAGE = b"<!doctype html><title>Another site</title>"


@pytest.mark.parametrize("statuses", [(502, 504, 503), (408, 425, 429)])
def test_front_end_of_a_restart_is_retried(refresh: Refresh, statuses: tuple[int, ...]) -> None:
    first, *more = [(status, PAGE, {"Retry-After": "0"}) for status in statuses]
    with front_end((first[0], b"", {"Retry-After": "2"}), *more, (200, TOKEN, {})) as (url, paths):
        (outcome,), seconds = timed(lambda: refresh(url))
    assert outcome == {"token": "opaque"}
    assert paths == ["/api/token"] * 4
    assert 2 <= seconds < 10


@pytest.mark.parametrize("values", [("-5", "1.5"), ("2, 1", "1, 1")], ids=str)
def test_odd_retry_after_is_no_reason_to_hurry(refresh: Refresh, values: tuple[str, ...]) -> None:
    answers = [(503, PAGE, {"Retry-After": value}) for value in values]
    with front_end(*answers, (200, TOKEN, {})) as (url, _):
        (outcome,), seconds = timed(lambda: refresh(url))
    assert outcome == {"token": "opaque"}
    assert seconds >= 3


@pytest.mark.parametrize(("status", "wait", "tries"), [(429, "3600", 1), (502, "0", 4), (503, "0", 4)])
def test_front_end_is_blamed_for_its_status(refresh: Refresh, status: int, wait: str, tries: int) -> None:
    with front_end((status, PAGE, {"Retry-After": wait})) as (url, paths):
        (error,) = refresh(url)
    assert (error["status"], error["code"], len(paths)) == (status, None, tries)
    assert f"front end answers with this status at {url}/api/token" in error["message"]
    assert "erviceUrl" not in error["message"]
    assert "ervice_url" not in error["message"]


NO_TOKENS = [
    None,
    "",
    " \n",
    5,
    True,
    ["SECRET"],
    {"accessToken": "SECRET"},
    "SEC\nRET",
    "Bearer SECRET",
    "SECRÉT",
]


@pytest.mark.parametrize("returned", NO_TOKENS, ids=ascii)
def test_access_token_must_be_text_of_one(refresh: Refresh, returned: object) -> None:
    with front_end((200, TOKEN, {})) as (url, paths):
        (error,) = refresh(url, returned=returned)
    assert error["name"] in ("TypeError", "ValueError")
    assert error["message"].partition(" must return ")[0] in ("getAccessToken", "get_access_token")
    assert "SEC" not in error["message"]
    assert paths == []


def test_access_token_of_a_file_is_trimmed(azure: LocalAzure, refresh: Refresh, access_token: str) -> None:
    (outcome,) = refresh(returned=f"\ufeff {access_token}\r\n")
    assert azure.check_token(outcome["token"])["valid"]


NOT_TOKENS: list[object] = ["", " ", 5, None, True, ["x"], {"x": "y"}, "two words"]
STRANGE = [
    *[(200, json.dumps({"token": t, "expiresOn": "2100-01-01T00:00:00Z"}).encode(), {}) for t in NOT_TOKENS],
    *[(status, PAGE, {}) for status in (200, 400, 403, 404, 405, 410, 500, 501)],
    *[(200, body, {}) for body in (b"", b"{}", b"[]", b"null", b'"token"', b'{"status": "ok"}', b"\xff")],
    *[(404, body, {}) for body in (b"", b"null", b'{"detail": "no"}', b'{"error": {"code": "x"}}')],
    (302, PAGE, {"Location": "https://login.example/start?state=secret#secret"}),
    (301, b"", {"Location": "/elsewhere"}),
]


@pytest.mark.parametrize("answer", STRANGE, ids=str)
def test_other_site_is_named_at_once(refresh: Refresh, answer: Answer) -> None:
    with front_end(answer) as (url, paths):
        (error,) = refresh(url)
    assert (error["status"], error["code"], len(paths)) == (answer[0], None, 1)
    assert f"{url}/api/token is not from the service" in error["message"]
    assert answer[2].get("Location", "").partition("?")[0] in error["message"]
    assert "secret" not in error["message"]


def test_untrusted_certificate_is_named_at_once(refresh: Refresh, tmp_path: Path) -> None:
    with TlsFront(tmp_path) as front:
        (error,), seconds = timed(lambda: refresh(front.url))
    assert error["status"] is None
    assert front.url in error["message"]
    assert "certificate" in error["message"]
    assert seconds < 5


def test_address_without_tls_is_named_at_once(refresh: Refresh) -> None:
    with front_end((200, TOKEN, {})) as (plain, _):
        url = plain.replace("http://", "https://")
        (error,), seconds = timed(lambda: refresh(url))
    assert error["status"] is None
    assert url in error["message"]
    assert "ssl" in error["message"].lower()
    assert seconds < 5


def test_refused_connection_is_named(refresh: Refresh) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (error,), seconds = timed(lambda: refresh(url))
    assert error["status"] is None
    assert url in error["message"]
    assert "refused" in error["message"].lower()
    assert seconds >= 7
