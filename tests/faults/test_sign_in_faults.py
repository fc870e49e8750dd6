"""Entra ID faults during sign-in: an error page within 15 s, and the next sign-in works."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import requests
from werkzeug.http import http_date

from tests.support.concurrency import run_concurrently, timed, wait_until
from tests.support.fault_matrix import COLUMNS, TABLE
from tests.support.local_azure import LocalAzure
from tests.support.log import read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.report import RecordCell
from tests.support.service import Service

Fill = Callable[[str, str, requests.Response], None]

LIMIT_SECONDS = 15.0
AT_ONCE_SECONDS = 2.0

FAULTS: dict[str, dict[str, Any]] = {
    **{str(status): {"status": status} for status in (302, 400, 401, 403, 404, 409, 412, 429, 500, 503)},
    "429 RA": {"status": 429, "retryAfter": "37"},
    "429 with a date": {"status": 429, "retryAfter": http_date(time.time() + 3600)},
    "503 RA": {"status": 503, "retryAfter": "41"},
    "reset": {"kind": "reset"},
    "half": {"kind": "half"},
    "not JSON": {"status": 200, "body": "<html>maintenance</html>"},
    "empty": {"status": 200, "body": ""},
    "a list": {"status": 200, "body": []},
    "an empty object": {"status": 200, "body": {}},
}

KEYS, DISCOVERY = "keys: GET /auth/callback", "discovery: GET /auth/sign-in"
TOKEN_ENDPOINT = "token endpoint: GET /auth/callback"
COLUMN_NAMES = {column.name for column in COLUMNS}


@pytest.fixture
def fill(record_cell: RecordCell) -> Fill:
    def in_matrix(row: str, fault: str, response: requests.Response) -> None:
        if fault in COLUMN_NAMES:
            record_cell(TABLE, row, fault, f"{response.status_code}{'t' if fault.startswith('429') else ''}")

    return in_matrix


def plant(azure: LocalAzure, operation: str, kind: str = "status", **members: object) -> None:
    azure.plant_fault("entra", operation, kind, **({"times": None} | members))


@pytest.fixture
def cold_service(azure: LocalAzure, settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance that has not reached Entra ID yet."""
    plant(azure, "discovery", status=503)
    with Service(settings | {"PUBLIC_URL": service.url}) as running:
        wait_until(lambda: "Entra ID" in running.log())
        azure.clear_faults()
        yield running


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", ["token", "keys"])
def test_failing_endpoint_is_503(
    azure: LocalAzure, service: Service, person: Person, fill: Fill, operation: str, fault: str
) -> None:
    if operation == "keys":
        azure.rotate_keys(keep_old=True)  # so that the service has to fetch the new key
    callback = person.start_sign_in()
    plant(azure, operation, **FAULTS[fault])
    response = person.finish_sign_in(callback)
    azure.clear_faults()
    fill(TOKEN_ENDPOINT if operation == "token" else KEYS, fault, response)
    assert_error_page(response, 503)
    assert response.headers["Retry-After"] == FAULTS[fault].get("retryAfter", "5")
    event = read_event(service, response, "upstream_error")
    assert event["upstream"] == "Entra ID"
    assert event["throttled"] == fault.startswith("429")
    assert person.get("/api/me").status_code == 401
    assert person.sign_in().status_code == 302


def test_throttled_sign_in_affects_no_other_user(
    azure: LocalAzure, new_person: Callable[..., Person], person: Person
) -> None:
    azure.plant_fault("entra", "token", "status", status=429, retryAfter="60", times=1)
    assert_error_page(person.sign_in(), 503)
    assert new_person().sign_in().status_code == 302


def test_failing_discovery_is_503_until_it_works(
    azure: LocalAzure,
    service: Service,
    cold_service: Service,
    new_person: Callable[..., Person],
    signed_in: Person,
    fill: Fill,
) -> None:
    person = new_person(at=cold_service)

    def is_fetched() -> bool:
        """After some failures in a row, a request may get the last one without a fetch."""
        person.get("/auth/sign-in")
        return "discovery" in azure.count_calls("entra")

    for fault, members in FAULTS.items():
        plant(azure, "discovery", **members)
        azure.reset_calls()
        wait_until(is_fetched)
        response = person.get("/auth/sign-in")
        fill(DISCOVERY, fault, response)
        assert_error_page(response, 503)
        assert response.headers["Retry-After"] == members.get("retryAfter", "5"), fault
        assert person.http.cookies.keys() == []
        azure.clear_faults()
    plant(azure, "discovery", status=503)
    # Existing sessions still work, and a sign-out succeeds even while Entra ID fails.
    elsewhere = signed_in.at(cold_service.url)
    assert elsewhere.get("/").status_code == 200
    response = elsewhere.sign_out()
    assert response.headers["Location"].startswith(f"{azure.env['ENTRA_AUTHORITY']}/oauth2/v2.0/logout?")
    assert "Clear-Site-Data" in response.headers
    assert signed_in.get("/api/me").status_code == 401
    azure.clear_faults()
    wait_until(lambda: person.get("/auth/sign-in").status_code == 302)
    callback = person.start_sign_in().replace(service.url, cold_service.url)
    assert person.finish_sign_in(callback).status_code == 302


def test_pages_do_not_wait_for_unresponsive_entra(
    azure: LocalAzure, cold_service: Service, signed_in: Person
) -> None:
    plant(azure, "discovery", "hang")
    elsewhere = signed_in.at(cold_service.url)
    responses = [timed(lambda: elsewhere.get("/")) for _ in range(5)]
    assert [response.status_code for response, _ in responses] == [200] * 5
    assert sum(seconds for _, seconds in responses) < AT_ONCE_SECONDS
    policy = responses[0][0].headers["Content-Security-Policy"]
    assert f"form-action 'self' {azure.get_app().tls_origin};" in policy
    azure.clear_faults()
    callback = elsewhere.start_sign_in().replace(signed_in.url, cold_service.url)
    assert elsewhere.finish_sign_in(callback).status_code == 302
    policy = elsewhere.get("/").headers["Content-Security-Policy"]
    assert f"form-action 'self' {azure.get_app().page_origin};" in policy


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_unresponsive_entra_is_503_without_delaying_others(
    azure: LocalAzure, cold_service: Service, new_person: Callable[..., Person], fill: Fill, kind: str
) -> None:
    at_token, at_keys, other_person = new_person(), new_person(), new_person().signed_in()
    at_discovery = new_person(at=cold_service)
    callback, token_callback = other_person.start_sign_in(), at_token.start_sign_in()
    plant(azure, "token", kind, seconds=0.2, times=1)
    plant(azure, "discovery", kind, seconds=0.2)

    def at_keys_endpoint() -> tuple[requests.Response, float]:
        wait_until(lambda: not any(fault["operation"] == "token" for fault in azure.list_faults()))
        response, seconds = timed(lambda: other_person.finish_sign_in(callback))
        assert (response.status_code, seconds < AT_ONCE_SECONDS) == (302, True)
        azure.rotate_keys(keep_old=True)
        plant(azure, "keys", kind, seconds=0.2)
        return timed(at_keys.sign_in)

    at_token_endpoint = partial(at_token.finish_sign_in, token_callback)
    at_discovery_endpoint = partial(at_discovery.get, "/auth/sign-in")
    responses = run_concurrently(
        [lambda: timed(at_token_endpoint), at_keys_endpoint, lambda: timed(at_discovery_endpoint)]
    )
    azure.clear_faults()
    for row, (response, seconds) in zip((TOKEN_ENDPOINT, KEYS, DISCOVERY), responses, strict=True):
        fill(row, kind, response)
        assert_error_page(response, 503)
        assert seconds < LIMIT_SECONDS
    for person in (at_token, at_keys):
        assert person.sign_in().status_code == 302
    assert at_discovery.get("/auth/sign-in").status_code == 302


def test_sign_in_survives_key_replacement(azure: LocalAzure, signed_in: Person, person: Person) -> None:
    azure.rotate_keys(keep_old=False)
    assert signed_in.sign_in().status_code == 302
    azure.tamper("unknown-kid")
    assert signed_in.sign_in().status_code == 400
    assert signed_in.sign_in().status_code == 302


def test_sign_in_waits_for_slow_entra(
    azure: LocalAzure, cold_service: Service, person: Person, new_person: Callable[..., Person], fill: Fill
) -> None:
    azure.rotate_keys(keep_old=True)
    for operation in ("token", "keys", "discovery"):
        plant(azure, operation, "delay", seconds=1.0)
    start = partial(new_person(at=cold_service).get, "/auth/sign-in")
    signing_in, starting = run_concurrently([lambda: person.sign_in(), lambda: start()])
    fill(TOKEN_ENDPOINT, "slow", signing_in)
    fill(KEYS, "slow", signing_in)
    fill(DISCOVERY, "slow", starting)
    assert signing_in.status_code == starting.status_code == 302


@pytest.mark.parametrize("then", ["reset", "status"])
def test_redeemed_code_with_lost_response_is_400(
    azure: LocalAzure, person: Person, fill: Fill, then: str
) -> None:
    callback = person.start_sign_in()
    plant(azure, "token", "fail-after-commit", then=then, status=500, times=1)
    response = person.finish_sign_in(callback)
    fill(TOKEN_ENDPOINT, "done 500", response)
    assert_error_page(response, 503)
    assert_error_page(person.finish_sign_in(callback), 400)
    assert person.sign_in().status_code == 302
