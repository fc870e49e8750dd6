"""Every route: its audience, and the responses to all other callers."""

import itertools
from collections import Counter
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from bs4 import BeautifulSoup
from flask import Flask

from tests.support.admin_client import ROLE, Admin, bearer, call, take_role
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import own_azure
from tests.support.pages import assert_error_page, assert_no_visible_markup
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.routes import Route, list_routes
from trusted_service.users.actions import ACTIONS
from trusted_service.web.security.audiences import Audience, require_one_for_each_route

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
ADMIN_PREFIXES = ("/admin/", "/api/admin/")

# A new public route must be added here too.
PUBLIC = {
    "/auth/sign-in", "/auth/front-channel-logout", "/healthz", "/readyz", "/openapi.json",
    "/static/site.css", "/bootstrap/static/css/bootstrap.min.css",
}  # fmt: skip
VISITORS = {"/", "/docs", "/auth/callback", "/auth/sign-out"}


@pytest.fixture(scope="module")
def routes(application: Flask) -> list[Route]:
    return list_routes(application)


@pytest.fixture(scope="module")
def admin_routes(routes: list[Route]) -> list[Route]:
    return [route for route in routes if route.path.startswith(ADMIN_PREFIXES)]


@pytest.fixture(scope="module")
def anonymous(new_person: Callable[..., Person]) -> Person:
    """A browser without a session."""
    return new_person()


@pytest.fixture(scope="module")
def member(new_person: Callable[..., Person]) -> Person:
    """A signed-in user without the administrators' role, but with similar ones."""
    return new_person(roles=["Reader", ROLE.lower(), f"{ROLE}s", f"x {ROLE}"]).signed_in()


def assert_refused(route: Route, response: requests.Response, status: int, code: str) -> None:
    """Check for this error, as a problem or a page; a response to HEAD has no body."""
    assert response.status_code == status, route
    if route.method != "HEAD" and route.is_api:
        assert_problem(response, status, code)
    elif route.method != "HEAD":
        assert_error_page(response, status)


def test_every_route_has_its_audience(routes: list[Route]) -> None:
    for route in routes:
        if route.path in PUBLIC | VISITORS:
            expected = Audience.PUBLIC if route.path in PUBLIC else Audience.VISITOR
        else:
            expected = Audience.ADMINISTRATOR if route.path.startswith(ADMIN_PREFIXES) else Audience.SIGNED_IN
        assert route.audience is expected, route


def test_route_without_audience_prevents_startup() -> None:
    app = Flask("careless")
    app.add_url_rule("/careless", view_func=lambda: "")
    with pytest.raises(RuntimeError, match="has no audience"):
        require_one_for_each_route(app)


def test_anonymous_is_refused_on_every_protected_route(routes: list[Route], anonymous: Person) -> None:
    protected = [route for route in routes if route.audience not in (Audience.PUBLIC, Audience.VISITOR)]
    assert protected
    for route in protected:
        response = Route(f"{route.path}?q=a%26b", route.method).call(anonymous)
        if route.is_api:
            assert_refused(route, response, 401, "not_signed_in")
            continue
        assert response.status_code == (302 if route.is_safe else 303), route
        assert response.headers["Cache-Control"] == "no-store"
        target = urlsplit(response.headers["Location"])
        assert (target.netloc, target.path) == ("", "/auth/sign-in")
        if route.is_safe:
            assert parse_qs(target.query)["next"] == [f"{route.path}?q=a%26b"]


def test_admin_routes_refuse_person_without_role(admin_routes: list[Route], member: Person) -> None:
    csrf = member.csrf_headers()
    for route in admin_routes:
        assert_refused(route, route.call(member, **csrf), 403, "forbidden")


def test_options_reveals_nothing(admin_routes: list[Route], anonymous: Person, member: Person) -> None:
    for path in {route.path for route in admin_routes}:
        route = Route(path, "OPTIONS")
        for person, status in ((anonymous, 303), (member, 403)):
            response = route.call(person)
            assert response.status_code == (200 if route.is_api else status), route
            assert not route.is_api or response.content == b""
            assert "Access-Control-Allow-Origin" not in response.headers


def test_unsafe_routes_refuse_cross_site_requests(routes: list[Route], member: Person, admin: Admin) -> None:
    own, foreign = {"X-CSRFToken": admin.csrf}, member.csrf_headers()
    origins = ({"Origin": origin} for origin in ("https://evil.example", "null"))
    forgeries = ({}, foreign, {"X-CSRFToken": "x.y"}, *(own | origin for origin in origins))
    for route in routes:
        if not route.is_safe:
            for headers in forgeries:
                assert_refused(route, route.call(admin.person, **headers), 403, "csrf_failed")
            assert_refused(route, route.call(member), 403, "csrf_failed")
        elif route.is_api:
            response = route.call(admin.person, **{"Sec-Fetch-Site": "cross-site"})
            assert_refused(route, response, 403, "csrf_failed")


def test_invalid_bearer_is_refused_despite_session(routes: list[Route], admin: Admin) -> None:
    for route in (route for route in routes if route.is_api):
        for credentials in ("Bearer x", "Bearer x.y.z", "Bearer", "Basic eDp5", ""):
            response = route.call(admin.person, Authorization=credentials)
            assert_refused(route, response, 401, "invalid_token")


def test_bearer_token_opens_no_page(
    azure: LocalAzure, admin_routes: list[Route], admin: Admin, anonymous: Person
) -> None:
    headers = bearer(azure, admin.person)
    for route in (route for route in admin_routes if not route.is_api):
        assert route.call(anonymous, **headers).status_code in (302, 303), route


def test_other_methods_are_405_on_every_route(routes: list[Route], admin: Admin) -> None:
    csrf = {"X-CSRFToken": admin.csrf}
    for path in {route.path for route in routes}:
        allowed = {route.method for route in routes if route.path == path}
        for method in METHODS - allowed:
            response = Route(path, method).call(admin.person, **csrf)
            assert response.status_code == 405, (method, path)
            assert set(response.headers["Allow"].split(", ")) - {"OPTIONS"} == allowed


def test_bearer_without_scope_or_role_is_refused(
    azure: LocalAzure, admin_routes: list[Route], admin: Admin, member: Person
) -> None:
    username = admin.person.account.username
    wrong_scope, _ = azure.mint_tokens(username=username, claims={"scp": "User.Read"})
    no_scope, _ = azure.mint_tokens(username=username, claims={"scp": None})  # nor an app-only token
    _, id_token = azure.mint_tokens(username=username)
    refused = [(wrong_scope, "insufficient_scope"), (no_scope, "insufficient_scope")]
    refused += [(str(id_token), "invalid_token")]
    refused += [(azure.mint_tokens(username=member.account.username)[0], "forbidden")]
    for roles in (None, [], ["Reader"], ROLE, [ROLE.lower()], {ROLE: True}):
        refused += [(azure.mint_tokens(app=True, claims={"roles": roles})[0], "forbidden")]
    for route in (route for route in admin_routes if route.is_api):
        for token, code in refused:
            headers = {"Authorization": f"Bearer {token}"}
            response = call(route.method, member.url + route.path, headers=headers)
            assert_refused(route, response, 401 if code == "invalid_token" else 403, code)


def test_app_only_token_administers_until_blocked(routes: list[Route], admin: Admin, person: Person) -> None:
    token, _ = person.azure.mint_tokens(app=True)
    headers = {"Authorization": f"Bearer {token}"}
    users = f"{person.url}/api/admin/users"
    assert call("GET", users, headers=headers).status_code == 200
    for action in ("block", "sign-out", "revoke", "unblock", "delete"):
        response = call("POST", f"{users}/{person.key}/{action}", headers=headers)
        assert response.status_code == (204 if action == "delete" else 200), response.text
    for route in (route for route in routes if route.is_api and not route.path.startswith("/api/admin/")):
        response = call(route.method, person.url + route.path, headers=headers)
        assert_refused(route, response, 403, "insufficient_scope")
    claims = jwt.decode(token, options={"verify_signature": False})
    admin.do("api", f"{claims['tid']}/{claims['oid']}", "block")
    refused = call("GET", users, headers=headers)
    admin.do("api", f"{claims['tid']}/{claims['oid']}", "unblock")
    assert_problem(refused, 403, "blocked")


def test_removed_role_takes_effect_immediately(azure: LocalAzure, new_person: Callable[..., Person]) -> None:
    person = new_person(roles=[ROLE]).signed_in()
    users = f"{person.url}/api/admin/users"
    assert person.get("/admin/users").status_code == 200
    assert call("GET", users, headers=bearer(azure, person)).status_code == 200
    take_role(azure, person)
    assert person.signed_in().me()["user"]["roles"] == []
    assert_error_page(person.get("/admin/users"), 403)
    for response in (person.get("/api/admin/users"), call("GET", users, headers=bearer(azure, person))):
        assert_problem(response, 403, "forbidden")


def test_slash_at_the_end_leads_to_the_page(admin: Admin, member: Person, anonymous: Person) -> None:
    pages = {f"{page}/": page for page in ("/account", "/account/delete", "/docs", "/auth/sign-in")}
    lists = ("users", "jobs", "audit", "usage", "users.csv", f"users/{member.key}")
    pages |= {f"/admin/{page}/": f"/admin/{page}" for page in lists}
    pages |= dict.fromkeys(("/admin", "/admin/"), "/admin/users")
    for (path, page), method in itertools.product(pages.items(), ("GET", "HEAD")):
        for person in (admin.person, member, anonymous):
            response = person.call(method, f"{path}?q=a%26b")
            assert (response.status_code, response.headers["Location"]) == (302, f"{page}?q=a%26b"), path
            assert response.headers["Cache-Control"] == "no-store"
    assert member.get("/admin", allow_redirects=True).status_code == 403


def test_other_path_spellings_are_404(admin: Admin, member: Person) -> None:
    paths = ["/api/admin", "/api/admin/", "/api/admin/users/", "/api/me/", "/ADMIN/users", "/admin/users//"]
    paths += ["/admin//", "/healthz/", "/nothing/", "/auth/", "/admin/x/"]
    paths += ["/auth/callback/?code=1", "/admin/users/x/y/", f"/admin/users/{member.key}/block/"]
    for path in paths:
        for person in (admin.person, member):
            assert person.get(f"{person.url}{path}").status_code == 404, path
    for path in ("/admin", "/account/"):
        assert admin.person.post(path, headers={"X-CSRFToken": admin.csrf}).status_code == 404


def test_no_page_shows_markup_as_text(routes: list[Route]) -> None:
    """Checked without the users of other tests, whose names are markup."""
    pages = [route for route in routes if route.method == "GET" and not route.is_api]
    seen: Counter[str] = Counter()
    with own_azure() as world:
        mapped_user = world.new_user()
        paths = ["", *(f"/confirm/{action}" for action in ACTIONS)]
        pages += [Route(f"/admin/users/{mapped_user.key}{path}", "GET") for path in paths]
        callers = (world.admin.person, mapped_user, world.new_person())
        for route, caller, language in itertools.product(pages, callers, ("en", "fr")):
            response = route.call(caller, **{"Accept-Language": language})
            if response.headers["Content-Type"].startswith("text/html") and response.status_code != 302:
                assert_no_visible_markup(BeautifulSoup(response.text, "html.parser"))
                seen[route.path] += 1
    assert seen["/docs"] == 2 * len(callers)
    assert seen.total() > 2 * len(pages)
