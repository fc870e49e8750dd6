"""The headers that help browsers to keep an answer safe: on every answer, whatever it is."""

from collections.abc import Callable

import pytest
import requests
from flask import Flask

from tests.support.person import Person
from tests.support.routes import Route, list_routes
from tests.support.service import Service

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FRAMED = "/auth/front-channel-logout"
ERRORS = [
    *(Route(path, "GET") for path in ("/nothing", "/api/nothing", "/static/nothing", "/static/../wsgi.py")),
    *(Route(path, "DELETE") for path in ("/healthz", "/", "/static/site.css", "/api/token")),
    *(Route("/auth/callback?" + query, "GET") for query in ("state=x", "error=x", "code=1&code=2")),
]


def assert_headers(route: Route, answer: requests.Response) -> None:
    """Check the headers of an answer to this route."""
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, route
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "object-src 'none'" in policy
    assert "unsafe" not in policy
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    assert policy.endswith("; sandbox") is not is_page, route
    assert "camera=()" in answer.headers["Permissions-Policy"]
    if route.path != FRAMED:
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert "Server" not in answer.headers
    assert "X-Powered-By" not in answer.headers
    assert answer.headers["X-Request-ID"].isalnum()
    is_file = "/static/" in route.path and answer.status_code < 400
    assert ("no-store" in answer.headers.get("Cache-Control", "")) == (not is_file), route


@pytest.mark.parametrize("roles", [None, [], ["TrustedService.Admin"]], ids=["stranger", "member", "admin"])
def test_every_answer_carries_the_security_headers(
    application: Flask, new_person: Callable[..., Person], roles: list[str] | None
) -> None:
    person = new_person(roles=roles or [])
    if roles is not None:
        person.sign_in()
    for route in [*list_routes(application), *ERRORS]:
        assert_headers(route, route.call(person))


def test_static_files_may_be_kept_but_not_their_errors(service: Service) -> None:
    found = requests.get(f"{service.url}/static/site.css", timeout=10)
    assert "max-age" in found.headers["Cache-Control"]
    assert "private" not in found.headers["Cache-Control"]
    etag = found.headers["ETag"]
    again = requests.get(f"{service.url}/static/site.css", headers={"If-None-Match": etag}, timeout=10)
    assert again.status_code == 304


def test_https_asks_browsers_to_stay_with_it(settings: dict[str, str], service: Service) -> None:
    # TLS ends in front of the service; what it knows of it is the address that browsers use.
    assert "Strict-Transport-Security" not in requests.get(service.url, timeout=10).headers
    with Service(settings | {"PUBLIC_URL": "https://calls.contoso.example"}) as behind_tls:
        for path in ("/", "/nothing", "/api/me", "/static/site.css", "/healthz"):
            answer = requests.get(behind_tls.url + path, timeout=10)
            assert "max-age=" in answer.headers["Strict-Transport-Security"], path
