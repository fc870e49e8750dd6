"""A walk over every route there is: who it is for, and what everybody else is told."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.routes import Route, list_routes
from trusted_service.web.audience import Audience, require_one_for_each_route

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}

# Whoever adds a route for strangers has to add it here too.
PUBLIC = {
    "/auth/sign-in", "/auth/front-channel-logout", "/healthz", "/readyz", "/openapi.json",
    "/static/site.css", "/bootstrap/static/css/bootstrap.min.css",
}  # fmt: skip
VISITORS = {"/", "/docs", "/auth/callback", "/auth/sign-out"}


@pytest.fixture(scope="module")
def routes(application: Flask) -> list[Route]:
    return list_routes(application)


@pytest.fixture(scope="module")
def stranger(new_person: Callable[..., Person]) -> Person:
    """A browser without a session."""
    return new_person()


@pytest.fixture(scope="module")
def member(new_person: Callable[..., Person]) -> Person:
    """Somebody who is signed in, without a role."""
    person = new_person()
    person.sign_in()
    return person


@pytest.fixture(scope="module")
def administrator(new_person: Callable[..., Person]) -> Person:
    person = new_person(roles=["TrustedService.Admin"])
    person.sign_in()
    return person


def expected_audience(path: str) -> Audience:
    """Who may call this path, by the contract's sections 3 and 4."""
    if path in PUBLIC:
        return Audience.PUBLIC
    if path in VISITORS:
        return Audience.VISITOR
    if path.startswith(("/admin/", "/api/admin/")):
        return Audience.ADMINISTRATOR
    return Audience.SIGNED_IN


def test_every_route_has_the_audience_that_its_path_promises(routes: list[Route]) -> None:
    wrong = [route for route in routes if route.audience is not expected_audience(route.path)]
    assert wrong == []


def test_route_that_does_not_say_who_it_is_for_stops_the_start() -> None:
    app = Flask("careless")
    app.add_url_rule("/careless", view_func=lambda: "")
    with pytest.raises(RuntimeError, match="does not say who it is for"):
        require_one_for_each_route(app)


def test_stranger_is_refused_on_every_route_that_is_not_for_them(
    routes: list[Route], stranger: Person
) -> None:
    closed = [route for route in routes if route.audience not in (Audience.PUBLIC, Audience.VISITOR)]
    assert closed
    for route in closed:
        answer = route.call(stranger)
        if route.is_api and route.method != "HEAD":
            assert_problem(answer, 401, "not_signed_in")
        elif route.is_api:
            assert answer.status_code == 401
        else:
            assert answer.status_code == (302 if route.is_safe else 303), route
            target = urlsplit(answer.headers["Location"])
            assert (target.netloc, target.path) == ("", "/auth/sign-in")
            if route.method == "GET":
                assert parse_qs(target.query)["next"] == [route.path]


def test_person_without_the_role_is_refused_on_every_route_for_administrators(
    routes: list[Route], member: Person
) -> None:
    csrf = member.csrf_headers()
    closed = [route for route in routes if route.audience is Audience.ADMINISTRATOR]
    assert closed
    for route in closed:
        answer = route.call(member, **csrf)
        assert answer.status_code == 403, route
        if route.is_api and route.method != "HEAD":
            assert_problem(answer, 403, "forbidden")


def test_unsafe_request_without_csrf_value_is_refused_on_every_route(
    routes: list[Route], member: Person, administrator: Person
) -> None:
    unsafe = [route for route in routes if not route.is_safe]
    assert unsafe
    for route in unsafe:
        for person in (member, administrator):
            answer = route.call(person)
            assert answer.status_code == 403, route
            if route.is_api:
                assert_problem(answer, 403, "csrf_failed")


def test_unsafe_request_from_a_foreign_page_is_refused_on_every_route(
    routes: list[Route], administrator: Person
) -> None:
    csrf = administrator.csrf_headers()
    for route in routes:
        if not route.is_safe:
            answer = route.call(administrator, **csrf, Origin="https://evil.example")
            assert answer.status_code == 403, route


def test_bad_bearer_token_is_refused_on_every_api_route_whatever_the_cookie(
    routes: list[Route], administrator: Person
) -> None:
    for route in routes:
        for credentials in ("Bearer x", "Bearer", "Basic eDp5", "") if route.is_api else ():
            answer = route.call(administrator, Authorization=credentials)
            assert answer.status_code == 401, route
            if route.method != "HEAD":
                assert_problem(answer, 401, "invalid_token")


def test_methods_that_a_route_does_not_take_are_not_allowed(
    routes: list[Route], administrator: Person
) -> None:
    csrf = administrator.csrf_headers()
    for path in {route.path for route in routes}:
        taken = {route.method for route in routes if route.path == path}
        for method in METHODS - taken:
            answer = Route(path, method).call(administrator, **csrf)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) - {"OPTIONS"} == taken


def test_no_page_fails_whoever_asks(
    routes: list[Route], stranger: Person, member: Person, administrator: Person
) -> None:
    for route in routes:
        for person in (stranger, member, administrator) if route.is_safe else ():
            assert route.call(person).status_code < 500, route
