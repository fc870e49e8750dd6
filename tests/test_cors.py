"""Which pages of other origins may call the API, and with what."""

from collections.abc import Callable, Iterator

import pytest
import requests
from flask import Flask

from tests.support.desk import bearer, call
from tests.support.local_azure import LocalAzure
from tests.support.person import CALL_SECONDS, Person
from tests.support.problems import assert_problem
from tests.support.routes import list_routes
from tests.support.service import Service

SPA, OTHER_SPA = "https://app.contoso.example", "http://localhost:5173"
STRANGERS = [
    *("https://evil.example", "null", "", "*", "https://app.contoso.example.evil.example"),
    *("https://evil.example#https://app.contoso.example", "http://app.contoso.example", SPA + ":443"),
    *(SPA + "/", SPA.upper(), "HTTPS://app.contoso.example", "https://app-contoso.example"),
    *(SPA + "." , f"{SPA}, {OTHER_SPA}", f"{SPA} {OTHER_SPA}", "http://localhost:5174", "http://localhost"),
    *("https://user@app.contoso.example", "https://sub.app.contoso.example", "file://", "https://"),
]  # fmt: skip
EXPOSED = {"Date", "Retry-After", "WWW-Authenticate", "X-Request-ID"}
OURS = "Access-Control-"


@pytest.fixture(scope="module")
def spa_service(settings: dict[str, str]) -> Iterator[Service]:
    """A service that pages of two other origins may call, and that soon has enough of one user."""
    origins = {"CORS_ORIGINS": f"{SPA},{OTHER_SPA}", "RATE_LIMIT_TOKEN": "3 per minute"}
    with Service(settings | origins) as running:
        yield running


def options(url: str, origin: str | None, method: str, names: str = "authorization") -> requests.Response:
    """Ask as a browser does before it sends anything."""
    headers = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": names}
    if origin is not None:
        headers["Origin"] = origin
    return call("OPTIONS", url, headers=headers)


def cors_headers(answer: requests.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith(OURS)}


def split(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")}


def assert_readable(answer: requests.Response, origin: str = SPA) -> None:
    """Check that a page of this origin may read the answer, but only if it sent no cookie."""
    assert answer.headers["Access-Control-Allow-Origin"] == origin, answer.text
    assert split(answer.headers["Access-Control-Expose-Headers"]) == EXPOSED
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in split(answer.headers["Vary"])


def assert_unreadable(answer: requests.Response) -> None:
    assert cors_headers(answer) == {}
    assert "Origin" in split(answer.headers["Vary"])


def test_preflight_of_every_route_is_answered_without_sign_in(
    application: Flask, spa_service: Service
) -> None:
    routes = [route for route in list_routes(application) if route.is_api]
    assert len(routes) > 10
    for route in routes:
        for origin in (SPA, OTHER_SPA):
            url = spa_service.url + route.path
            answer = options(url, origin, route.method, "content-type, authorization, X-CSRFToken, x-evil")
            assert answer.status_code == 200, route
            assert_readable(answer, origin)
            assert split(answer.headers["Access-Control-Allow-Headers"]) == {"authorization", "content-type"}
            assert route.method in split(answer.headers["Access-Control-Allow-Methods"])
            assert 0 < int(answer.headers["Access-Control-Max-Age"]) <= 7200
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.content == b""


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "post", "X", ""])
def test_preflight_for_another_method_allows_nothing(spa_service: Service, method: str) -> None:
    answer = options(f"{spa_service.url}/api/token", SPA, method)
    if method.upper() != "POST":
        assert "Access-Control-Allow-Methods" not in answer.headers
        assert "Access-Control-Allow-Headers" not in answer.headers


@pytest.mark.parametrize("origin", STRANGERS)
def test_stranger_is_told_nothing(
    azure: LocalAzure, spa_service: Service, regular: Person, origin: str
) -> None:
    url = f"{spa_service.url}/api/me"
    assert_unreadable(options(url, origin, "GET"))
    answer = call("GET", url, headers=bearer(azure, regular) | {"Origin": origin})
    assert answer.status_code == 200
    assert_unreadable(answer)
    assert_unreadable(call("GET", url, headers={"Origin": origin}))


def test_answer_without_an_origin_varies_by_it_all_the_same(spa_service: Service) -> None:
    assert_unreadable(call("GET", f"{spa_service.url}/api/me", headers={}))
    assert_unreadable(call("GET", f"{spa_service.url}/api/nothing", headers={}))


@pytest.mark.parametrize("path", ["/", "/healthz", "/account", "/auth/sign-in", "/static/site.css", "/apis"])
def test_nothing_but_the_api_is_open(spa_service: Service, path: str) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": SPA, "Access-Control-Request-Method": "GET"}
        assert cors_headers(call(method, spa_service.url + path, headers=headers)) == {}


def test_page_gets_a_token_and_can_read_every_refusal(
    azure: LocalAzure, spa_service: Service, new_person: Callable[..., Person]
) -> None:
    person = new_person(at=spa_service)
    origin = {"Origin": SPA}
    headers = bearer(azure, person) | origin
    url = f"{person.url}/api/token"
    issued = call("POST", url, headers=headers)
    assert issued.status_code == 200
    assert_readable(issued)
    refusals = [
        (call("POST", url, headers=headers, json={"x": 1}), 400, "invalid_request"),
        (call("POST", url, headers=headers, data="x"), 415, "unsupported_media_type"),
        (call("POST", url, headers=headers), 429, "rate_limited"),
        (call("POST", url, headers=headers, data="x" * 20_000), 413, "too_large"),
        (call("POST", url, headers=origin), 401, "not_signed_in"),
        (call("POST", url, headers=origin | {"Authorization": "Bearer x"}), 401, "invalid_token"),
        (
            call("POST", url, headers=origin | bearer(azure, person, claims={"scp": "x"})),
            403,
            "insufficient_scope",
        ),
        (call("GET", url, headers=headers), 405, "method_not_allowed"),
        (call("GET", f"{person.url}/api/nothing", headers=headers), 404, "not_found"),
        (call("GET", f"{person.url}/api/admin/users", headers=headers), 403, "forbidden"),
    ]
    for answer, status, code in refusals:
        assert_problem(answer, status, code)
        assert_readable(answer)


def test_page_can_read_that_an_upstream_is_down(
    azure: LocalAzure, spa_service: Service, new_person: Callable[..., Person]
) -> None:
    person = new_person(at=spa_service)
    azure.plant_fault("acs", "*", "status", times=None, status=429, retryAfter="9")
    answer = call("POST", f"{person.url}/api/token", headers=bearer(azure, person) | {"Origin": SPA})
    assert_problem(answer, 503, "upstream_throttled")
    assert_readable(answer)
    assert answer.headers["Retry-After"] == "9"


def test_cookie_is_of_no_use_to_a_page_of_another_origin(
    spa_service: Service, new_person: Callable[..., Person]
) -> None:
    # A browser sends it along from another port or subdomain: that is the same site.
    person = new_person(at=spa_service)
    assert person.sign_in().status_code == 302
    origin = {"Origin": SPA}
    reading = person.get("/api/me", headers=origin)
    assert reading.status_code == 200
    # Without Allow-Credentials the browser keeps what came by a cookie from the page.
    assert_readable(reading)
    for method, path in (("POST", "/api/token"), ("POST", "/api/me/revoke"), ("DELETE", "/api/me")):
        answer = person.http.request(
            method, person.url + path, headers=person.csrf_headers() | origin, timeout=CALL_SECONDS
        )
        assert_problem(answer, 403, "csrf_failed")


def test_one_allowed_origin_varies_too(settings: dict[str, str]) -> None:
    with Service(settings | {"CORS_ORIGINS": SPA}) as running:
        for headers in ({}, {"Origin": SPA}, {"Origin": OTHER_SPA}):
            answer = call("GET", f"{running.url}/api/me", headers=headers)
            assert "Origin" in split(answer.headers["Vary"])


def test_without_the_setting_nobody_is_let_in(
    azure: LocalAzure, application: Flask, service: Service, person: Person
) -> None:
    headers = bearer(azure, person) | {"Origin": SPA}
    assert cors_headers(call("GET", f"{service.url}/api/me", headers=headers)) == {}
    for route in list_routes(application):
        if route.is_api:
            assert cors_headers(options(service.url + route.path, SPA, route.method)) == {}
