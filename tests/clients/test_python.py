"""The Python client for threads: what it gets, waits out, shares and gives up."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count

import pytest
from azure.communication.chat import ChatClient, CommunicationTokenCredential
from azure.core.credentials import AccessToken
from trusted_service_client import TokenRequestError, create_token_refresher

from tests.support.gate import Gate
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service
from tests.support.together import run_together, timed, wait_until
from tests.support.tokens import make_token

GetAccessToken = Callable[[bool], str]


@pytest.fixture
def get_access_token(access_token: str) -> GetAccessToken:
    return lambda _: access_token


def catch_error(refresh: Callable[[], AccessToken]) -> TokenRequestError:
    with pytest.raises(TokenRequestError) as caught:
        refresh()
    return caught.value


def test_credential_gets_a_token_with_the_scopes_that_were_asked(
    azure: LocalAzure, person: Person, get_access_token: GetAccessToken
) -> None:
    refresh = create_token_refresher(person.url, get_access_token, scopes=["chat"], expires_in_minutes=60)
    token = refresh()
    check = azure.check_token(token.token)
    assert (check["valid"], check["scopes"]) == (True, ["chat"])
    assert 59 * 60 < token.expires_on - datetime.now(UTC).timestamp() <= 60 * 60
    azure.reset_calls()
    with CommunicationTokenCredential(make_token(-60), token_refresher=refresh) as credential:
        tokens = [credential.get_token(), credential.get_token()]
        ChatClient("https://contoso.communication.example", credential).close()
    assert tokens[0] is tokens[1]
    assert azure.check_token(tokens[0].token)["valid"]
    assert azure.count_calls("acs") == {"issue": 1}


def test_credential_refreshes_proactively(
    azure: LocalAzure, person: Person, get_access_token: GetAccessToken
) -> None:
    refreshed = threading.Event()
    refresh = create_token_refresher(person.url, get_access_token)

    def note() -> AccessToken:
        token = refresh()
        refreshed.set()
        return token

    old = make_token(3)
    with CommunicationTokenCredential(old, token_refresher=note, proactive_refresh=True) as credential:
        assert refreshed.wait(10)
        wait_until(lambda: credential.get_token().token != old)
        assert azure.check_token(credential.get_token().token)["valid"]


def test_wish_that_the_service_refuses_is_an_error_at_once(
    person: Person, get_access_token: GetAccessToken
) -> None:
    error = catch_error(create_token_refresher(person.url, get_access_token, expires_in_minutes=59))
    assert (error.status, error.code, error.retry_after) == (400, "invalid_request", None)
    assert error.request_id


@pytest.mark.parametrize("url", ["", "calls.contoso.com", "file:///etc/passwd", "ftp://calls.contoso.com"])
def test_url_that_is_no_origin_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(ValueError, match="service_url"):
        create_token_refresher(url, lambda _: "x")


def test_threads_at_once_share_one_request(
    azure: LocalAzure, person: Person, get_access_token: GetAccessToken
) -> None:
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    azure.reset_calls()
    refresh = create_token_refresher(person.url, get_access_token)
    assert len(set(run_together([refresh] * 10))) == 1
    assert sum(azure.count_calls("acs").values()) == 1
    refresh()
    assert sum(azure.count_calls("acs").values()) == 2


def test_refused_access_token_is_got_anew_once(person: Person, access_token: str) -> None:
    asked = []

    def refresh_with(later: str) -> Callable[[], AccessToken]:
        def get_access_token(force_refresh: bool) -> str:
            asked.append(force_refresh)
            return later if force_refresh else "an.expired.token"

        return create_token_refresher(person.url, get_access_token)

    assert refresh_with(access_token)().token
    error = catch_error(refresh_with("no.better.token"))
    assert (error.status, error.code) == (401, "invalid_token")
    assert asked == [False, True] * 2


def test_failure_is_shared_and_the_next_call_starts_anew(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    calls = count()
    gate = threading.Event()

    def get_access_token(_: bool) -> str:
        if next(calls) == 0:
            gate.wait(10)
            raise RuntimeError("interaction required")
        return access_token

    refresh = create_token_refresher(person.url, get_access_token)

    def fail() -> str:
        with pytest.raises(RuntimeError) as caught:
            refresh()
        return str(caught.value)

    timer = threading.Timer(0.5, gate.set)
    timer.start()
    assert run_together([fail] * 5) == ["interaction required"] * 5
    timer.join()
    assert azure.check_token(refresh().token)["valid"]


def test_rate_limit_is_waited_out(
    azure: LocalAzure, strict_service: Service, get_access_token: GetAccessToken
) -> None:
    refresh = create_token_refresher(strict_service.url, get_access_token)
    for _ in range(2):
        assert azure.check_token(refresh().token)["valid"]
    assert '"status": 429' in strict_service.log()


@pytest.mark.parametrize(("status", "as_date"), [(429, False), (503, True)], ids=["seconds", "date"])
def test_upstream_in_trouble_is_waited_out_as_long_as_it_says(
    azure: LocalAzure, person: Person, get_access_token: GetAccessToken, status: int, as_date: bool
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    azure.plant_fault("acs", "create", "status", status=status, retryAfter=date if as_date else "2")
    token, seconds = timed(create_token_refresher(person.url, get_access_token))
    assert azure.check_token(token.token)["valid"]
    assert (1 if as_date else 2) <= seconds < 10


def test_tries_are_four_at_most(azure: LocalAzure, person: Person, get_access_token: GetAccessToken) -> None:
    azure.plant_fault("acs", "create", "status", status=503, retryAfter="0", times=None)
    azure.reset_calls()
    error = catch_error(create_token_refresher(person.url, get_access_token))
    assert (error.status, error.code) == (503, "upstream_unavailable")
    assert azure.count_calls("acs") == {"create": 4}


def test_wait_that_is_too_long_is_left_to_the_caller(
    azure: LocalAzure, person: Person, get_access_token: GetAccessToken
) -> None:
    azure.plant_fault("acs", "create", "status", status=429, retryAfter="3600")
    error = catch_error(create_token_refresher(person.url, get_access_token))
    assert (error.code, error.retry_after) == ("upstream_throttled", 3600)


def test_broken_connection_is_tried_again(
    azure: LocalAzure, gate: Gate, get_access_token: GetAccessToken
) -> None:
    gate.hang_up(1)
    token = create_token_refresher(f"http://127.0.0.1:{gate.port}", get_access_token)()
    assert azure.check_token(token.token)["valid"]


def test_service_that_is_away_is_given_up_without_a_status(gate: Gate) -> None:
    gate.hang_up(10)
    refresh = create_token_refresher(f"http://127.0.0.1:{gate.port}", lambda _: "x")
    error, seconds = timed(lambda: catch_error(refresh))
    assert (error.status, error.code) == (None, None)
    assert 7 <= seconds < 14  # 1, 2 and 4


def test_redirect_is_an_error_at_once(redirecting_url: str) -> None:
    error = catch_error(create_token_refresher(redirecting_url, lambda _: "x"))
    assert (error.status, error.code) == (302, None)


def test_only_the_origin_of_the_url_counts(
    azure: LocalAzure, person: Person, get_access_token: GetAccessToken
) -> None:
    token = create_token_refresher(f"{person.url}/api/?x=1", get_access_token)()
    assert azure.check_token(token.token)["valid"]
