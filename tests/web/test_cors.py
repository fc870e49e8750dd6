"""CORS: pages of configured origins may call the API, and only with a bearer token."""

from collections.abc import Callable, Iterator

import pytest
import requests
from flask import Flask

from tests.support.admin_client import bearer, call
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.routes import list_routes
from tests.support.service import Service

SPA, OTHER_SPA = "https://app.contoso.example", "http://localhost:5173"
HYBRID = "capacitor://localhost"
FOREIGN_ORIGINS = [
    *("https://evil.example", "null", "", "*", "https://app.contoso.example.evil.example"),
    *("https://evil.example#https://app.contoso.example", "http://app.contoso.example", SPA + ":443"),
    *(SPA + "/", SPA.upper(), "HTTPS://app.contoso.example", "https://app-contoso.example"),
    *(SPA + ".", f"{SPA}, {OTHER_SPA}", f"{SPA} {OTHER_SPA}", "http://localhost:5174", "http://localhost"),
    *("https://user@app.contoso.example", "https://sub.app.contoso.example", "file://", "https://"),
    *(HYBRID + "/", "Capacitor://localhost", "capacitor://localhost:80", "ionic://localhost"),
]
EXPOSED = {"Date", "Retry-After", "WWW-Authenticate", "X-Request-ID"}


@pytest.fixture(scope="module")
def spa_service(settings: dict[str, str]) -> Iterator[Service]:
    """A service with CORS origins, one as people write it, and a low rate limit."""
    origins = {
        "CORS_ORIGINS": f"{SPA},{OTHER_SPA}, Capacitor://localhost/",
        "RATE_LIMIT_TOKEN": "3 per minute",
    }
    with Service(settings | origins) as running:
        yield running


def preflight(url: str, origin: str, method: str, names: str = "authorization") -> requests.Response:
    """Send a CORS preflight request."""
    requested = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": names}
    return call("OPTIONS", url, headers=requested | {"Origin": origin})


def cors_headers(response: requests.Response) -> list[str]:
    return [name for name in response.headers if name.startswith("Access-Control-")]


def split(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")}


def assert_readable(response: requests.Response, origin: str = SPA) -> None:
    """Check that a page of this origin may read the response, provided it sent no cookie."""
    assert response.headers["Access-Control-Allow-Origin"] == origin, response.text
    assert split(response.headers["Access-Control-Expose-Headers"]) == EXPOSED
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert "Origin" in split(response.headers["Vary"])


def assert_unreadable(response: requests.Response) -> None:
    assert cors_headers(response) == []
    assert "Origin" in split(response.headers["Vary"])


def test_preflight_needs_no_sign_in(application: Flask, service: Service, spa_service: Service) -> None:
    routes = [route for route in list_routes(application) if route.is_api]
    assert len(routes) > 10
    for route in routes:
        assert cors_headers(preflight(service.url + route.path, SPA, route.method)) == []
        for origin in (SPA, OTHER_SPA, HYBRID):
            names = "content-type, authorization, X-CSRFToken, x-evil"
            response = preflight(spa_service.url + route.path, origin, route.method, names)
            assert response.status_code == 200, route
            assert_readable(response, origin)
            allowed = split(response.headers["Access-Control-Allow-Headers"])
            assert allowed == {"authorization", "content-type"}
            assert route.method in split(response.headers["Access-Control-Allow-Methods"])
            assert 0 < int(response.headers["Access-Control-Max-Age"]) <= 7200
            assert response.headers["Cache-Control"] == "no-store"
            assert response.content == b""


TRACING = ["traceparent", "tracestate", "baggage", "request-id", "request-context", "b3", "x-b3-traceid"]
TRACING += ["x-b3-spanid", "x-b3-sampled", "sentry-trace", "x-datadog-trace-id", "x-datadog-parent-id"]
TRACING += ["x-datadog-origin", "x-datadog-sampling-priority", "newrelic", "elastic-apm-traceparent"]
TRACING += ["x-instana-t", "x-instana-s", "x-instana-l", "x-dtpc", "x-amzn-trace-id"]


def test_preflight_allows_headers_of_monitoring(spa_service: Service) -> None:
    url, asked = f"{spa_service.url}/api/token", {"authorization", "content-type", *TRACING}
    names = [
        *asked,
        "x-csrftoken",
        "cookie",
        "x-forwarded-for",
        "x-http-method-override",
        "x-evil",
        "x-b3",
        "x-request-id",
    ]
    allowed = preflight(url, SPA, "POST", ",".join(names)).headers["Access-Control-Allow-Headers"]
    assert split(allowed.lower()) == asked
    assert_unreadable(preflight(url, "https://evil.example", "POST", ",".join(names)))


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "X", ""])
def test_preflight_for_another_method_allows_nothing(spa_service: Service, method: str) -> None:
    response = preflight(f"{spa_service.url}/api/token", SPA, method)
    assert "Access-Control-Allow-Methods" not in response.headers
    assert "Access-Control-Allow-Headers" not in response.headers


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_foreign_origin_cannot_read_responses(
    azure: LocalAzure, spa_service: Service, shared_user: Person, origin: str
) -> None:
    url = f"{spa_service.url}/api/me"
    assert_unreadable(preflight(url, origin, "GET"))
    response = call("GET", url, headers=bearer(azure, shared_user) | {"Origin": origin})
    assert response.status_code == 200
    assert_unreadable(response)
    assert_unreadable(call("GET", url, headers={"Origin": origin}))


@pytest.mark.parametrize("path", ["/", "/healthz", "/account", "/auth/sign-in", "/static/site.css", "/apis"])
def test_only_the_api_allows_cors(spa_service: Service, path: str) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": SPA, "Access-Control-Request-Method": "GET"}
        assert cors_headers(call(method, spa_service.url + path, headers=headers)) == []


def test_page_can_read_token_and_every_refusal(
    azure: LocalAzure, spa_service: Service, new_person: Callable[..., Person]
) -> None:
    person = new_person(at=spa_service)
    origin = {"Origin": SPA}
    headers = bearer(azure, person) | origin
    unscoped = bearer(azure, person, claims={"scp": "x"})
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
        (call("POST", url, headers=headers | unscoped), 403, "insufficient_scope"),
        (call("GET", url, headers=headers), 405, "method_not_allowed"),
        (call("GET", f"{person.url}/api/nothing", headers=headers), 404, "not_found"),
        (call("GET", f"{person.url}/api/admin/users", headers=headers), 403, "forbidden"),
    ]
    azure.plant_fault("acs", "*", "status", times=None, status=429, retryAfter="9")
    throttled = call("POST", url, headers=bearer(azure, new_person(at=spa_service)) | origin)
    assert throttled.headers["Retry-After"] == "9"
    for response, status, code in [*refusals, (throttled, 503, "upstream_throttled")]:
        assert_problem(response, status, code)
        assert_readable(response)


def test_other_origins_cannot_use_the_cookie(spa_service: Service, new_person: Callable[..., Person]) -> None:
    # Another port or subdomain is the same site, so a browser sends the cookie along.
    person = new_person(at=spa_service).signed_in()
    response = person.get("/api/me", headers={"Origin": SPA})
    assert response.status_code == 200
    # Without Allow-Credentials, the browser hides the response to a request with cookies from the page.
    assert_readable(response)
    headers = person.csrf_headers() | {"Origin": SPA}
    for method, path in (("POST", "/api/token"), ("POST", "/api/me/revoke"), ("DELETE", "/api/me")):
        assert_problem(person.call(method, path, headers=headers), 403, "csrf_failed")


def test_response_always_varies_by_origin(settings: dict[str, str], spa_service: Service) -> None:
    for path in ("/api/me", "/api/nothing"):
        assert_unreadable(call("GET", spa_service.url + path, headers={}))
    with Service(settings | {"CORS_ORIGINS": SPA}) as running:
        for headers in ({}, {"Origin": SPA}, {"Origin": OTHER_SPA}):
            response = call("GET", f"{running.url}/api/me", headers=headers)
            assert "Origin" in split(response.headers["Vary"])


def test_no_origin_is_allowed_by_default(azure: LocalAzure, shared_user: Person) -> None:
    headers = bearer(azure, shared_user) | {"Origin": SPA}
    assert cors_headers(call("GET", f"{shared_user.url}/api/me", headers=headers)) == []
