"""Every administrators' route refuses every other audience, whichever method it is asked with."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from flask import Flask

from tests.support.desk import ROLE, Desk, bearer, call
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service

PREFIXES = ("/admin/", "/api/admin/")
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, order=True)
class Route:
    """One method of one administrators' route, with ids of nobody in its place holders."""

    path: str
    method: str

    @property
    def api(self) -> bool:
        return self.path.startswith("/api/")

    @property
    def safe(self) -> bool:
        return self.method in SAFE


def list_routes(application: Flask) -> Iterator[Route]:
    """Every method of every administrators' route that the application has."""
    for rule in application.url_map.iter_rules():
        if not rule.rule.startswith(PREFIXES):
            continue
        values = {name: uuid.UUID(int=4) for name in rule.arguments if name.endswith("_id")}
        rest = {name: "block" if name == "action" else "1" for name in rule.arguments - set(values)}
        path = application.url_map.bind("localhost").build(rule.endpoint, values | rest)
        for method in rule.methods or ():
            yield Route(path, method)


@pytest.fixture(scope="module")
def routes(application: Flask) -> list[Route]:
    """All of them; a service without would pass every test here."""
    found = sorted(set(list_routes(application)))
    paths = {route.path for route in found}
    user = f"{uuid.UUID(int=4)}/{uuid.UUID(int=4)}"
    for action in ("block", "unblock", "revoke", "sign-out", "delete"):
        assert {f"/admin/users/{user}/{action}", f"/api/admin/users/{user}/{action}"} <= paths
    assert {"/admin/users", "/admin/users.csv", "/admin/audit", f"/admin/users/{user}"} <= paths
    assert {"/api/admin/users", f"/api/admin/users/{user}"} <= paths
    return found


@pytest.fixture(scope="module")
def lowly(new_person: Callable[..., Person]) -> Person:
    """Signed in, with another role than the one it takes, and with ones that look like it."""
    person = new_person(roles=["Reader", ROLE.lower(), f"{ROLE}s", f"x {ROLE}"])
    assert person.sign_in().status_code == 302
    return person


def each_method(routes: list[Route], *, api: bool) -> list[Route]:
    return [route for route in routes if route.api == api and route.method != "OPTIONS"]


def assert_empty_problem(route: Route, answer: requests.Response, status: int, code: str) -> None:
    """As `assert_problem`; HEAD has no body to look at."""
    if route.method == "HEAD":
        assert answer.status_code == status
    else:
        assert_problem(answer, status, code)


def test_signed_out_browser_is_sent_to_sign_in_and_back(routes: list[Route], service: Service) -> None:
    for route in each_method(routes, api=False):
        answer = call(route.method, f"{service.url}{route.path}?q=a%26b", headers={})
        assert answer.status_code == (302 if route.safe else 303), route
        target = urlsplit(answer.headers["Location"])
        assert target.path == "/auth/sign-in", route
        assert answer.headers["Cache-Control"] == "no-store"
        if route.safe:
            assert parse_qs(target.query)["next"] == [f"{route.path}?q=a%26b"], route


def test_signed_out_program_is_401(routes: list[Route], service: Service) -> None:
    for route in each_method(routes, api=True):
        answer = call(route.method, service.url + route.path, headers={})
        assert_empty_problem(route, answer, 401, "not_signed_in")


def test_user_without_the_role_is_403(routes: list[Route], lowly: Person) -> None:
    csrf = lowly.csrf_headers()
    for route in routes:
        if route.method == "OPTIONS":
            continue
        answer = lowly.http.request(
            route.method, lowly.url + route.path, headers=csrf, allow_redirects=False, timeout=30
        )
        if route.api:
            assert_empty_problem(route, answer, 403, "forbidden")
        elif route.method == "HEAD":
            assert answer.status_code == 403
        else:
            assert "administrator" in assert_error_page(answer, 403).get_text()


def test_options_tells_strangers_nothing(routes: list[Route], service: Service, lowly: Person) -> None:
    for route in [route for route in routes if route.method == "OPTIONS"]:
        for answer in (
            call("OPTIONS", service.url + route.path, headers={}),
            lowly.http.options(lowly.url + route.path, allow_redirects=False, timeout=30),
        ):
            assert answer.status_code in (200, 204, 303, 401, 403), route
            assert b"8:acs:" not in answer.content
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_bearer_token_opens_no_page(azure: LocalAzure, routes: list[Route], desk: Desk) -> None:
    headers = bearer(azure, desk.person)
    for route in each_method(routes, api=False):
        answer = call(route.method, desk.person.url + route.path, headers=headers)
        assert answer.status_code in (302, 303), route


def refuses(routes: list[Route], url: str, headers: dict[str, str], status: int, code: str) -> None:
    """Check that every route of the API gives this answer."""
    for route in each_method(routes, api=True):
        assert_empty_problem(route, call(route.method, url + route.path, headers=headers), status, code)


def test_bearer_token_of_a_user_without_the_role_is_403(
    azure: LocalAzure, routes: list[Route], lowly: Person, service: Service
) -> None:
    refuses(routes, service.url, bearer(azure, lowly), 403, "forbidden")


def test_bearer_token_without_our_scope_is_403(
    azure: LocalAzure, routes: list[Route], desk: Desk, service: Service
) -> None:
    headers = bearer(azure, desk.person, claims={"scp": "User.Read"})
    refuses(routes, service.url, headers, 403, "insufficient_scope")


def test_app_only_token_without_the_role_is_403(
    azure: LocalAzure, routes: list[Route], service: Service
) -> None:
    for roles in (None, [], ["Reader"], ROLE, [ROLE.lower()], {ROLE: True}):
        token, _ = azure.mint_tokens(app=True, claims={"roles": roles})
        refuses(routes, service.url, {"Authorization": f"Bearer {token}"}, 403, "forbidden")


def test_id_token_of_an_administrator_is_401(
    azure: LocalAzure, routes: list[Route], desk: Desk, service: Service
) -> None:
    _, id_token = azure.mint_tokens(username=desk.person.account.username)
    refuses(routes, service.url, {"Authorization": f"Bearer {id_token}"}, 401, "invalid_token")


def test_cookie_of_an_administrator_does_not_help_a_bad_bearer(routes: list[Route], desk: Desk) -> None:
    for route in each_method(routes, api=True):
        answer = desk.person.http.request(
            route.method,
            desk.person.url + route.path,
            headers={"Authorization": "Bearer x.y.z", "X-CSRFToken": desk.csrf},
            timeout=30,
        )
        assert_empty_problem(route, answer, 401, "invalid_token")


def test_token_without_scope_that_is_no_applications_is_403(
    azure: LocalAzure, routes: list[Route], desk: Desk, service: Service
) -> None:
    headers = bearer(azure, desk.person, claims={"scp": None})
    refuses(routes, service.url, headers, 403, "insufficient_scope")


def test_application_that_is_blocked_is_403(azure: LocalAzure, service: Service, desk: Desk) -> None:
    token, _ = azure.mint_tokens(app=True)
    claims = jwt.decode(token, options={"verify_signature": False})
    application = f"{claims['tid']}/{claims['oid']}"
    desk.do("api", application, "block")
    try:
        headers = {"Authorization": f"Bearer {token}"}
        assert_problem(call("GET", f"{service.url}/api/admin/users", headers=headers), 403, "blocked")
    finally:
        desk.do("api", application, "unblock")


def test_app_only_token_with_the_role_may_do_everything(
    azure: LocalAzure, service: Service, person: Person
) -> None:
    token, _ = azure.mint_tokens(app=True)
    headers = {"Authorization": f"Bearer {token}"}
    users = f"{service.url}/api/admin/users"
    assert call("GET", users, headers=headers).status_code == 200
    for action, status in (
        ("block", 200),
        ("sign-out", 200),
        ("revoke", 200),
        ("unblock", 200),
        ("delete", 204),
    ):
        answer = call("POST", f"{users}/{person.key}/{action}", headers=headers)
        assert answer.status_code == status, answer.text
    for method, path in (("GET", "/api/me"), ("POST", "/api/token"), ("DELETE", "/api/me")):
        refused = call(method, service.url + path, headers=headers)
        assert_problem(refused, 403, "insufficient_scope")


def test_delegated_token_with_the_role_needs_no_csrf_value(
    azure: LocalAzure, service: Service, desk: Desk, person: Person
) -> None:
    url = f"{service.url}/api/admin/users/{person.key}"
    headers = bearer(azure, desk.person)
    assert call("POST", f"{url}/block", headers=headers).json()["blocked"] is True
    assert call("GET", url, headers=headers).json()["blocked"] is True


def test_role_that_is_lost_is_gone_from_the_next_sign_in_and_bearer_token(
    azure: LocalAzure, new_person: Callable[..., Person]
) -> None:
    person = new_person(roles=[ROLE])
    person.sign_in()
    assert person.get("/admin/users").status_code == 200
    assert call("GET", f"{person.url}/api/admin/users", headers=bearer(azure, person)).status_code == 200
    account = person.account
    azure.put_account(
        account.username, name=account.name, tenantId=account.tenant_id, objectId=account.object_id, roles=[]
    )
    assert person.sign_in().status_code == 302
    assert_error_page(person.get("/admin/users"), 403)
    assert_problem(person.get("/api/admin/users"), 403, "forbidden")
    answer = call("GET", f"{person.url}/api/admin/users", headers=bearer(azure, person))
    assert_problem(answer, 403, "forbidden")
    assert person.me()["user"]["roles"] == []


def test_claims_of_a_role_in_the_request_are_ignored(lowly: Person) -> None:
    headers = {
        # pragma: allowlist nextline secret (made up)
        "X-MS-CLIENT-PRINCIPAL": "eyJyb2xlcyI6WyJUcnVzdGVkU2VydmljZS5BZG1pbiJdfQ==",
        "X-MS-CLIENT-PRINCIPAL-NAME": "admin@contoso.example",
        "X-Roles": ROLE,
        "X-HTTP-Method-Override": "GET",
    }
    answer = lowly.get(f"/api/admin/users?roles={ROLE}", headers=headers)
    assert_problem(answer, 403, "forbidden")


@pytest.mark.parametrize(
    "path",
    ["/admin", "/admin/", "/api/admin", "/api/admin/", "/admin/users/", "/ADMIN/users"],
)
def test_other_spellings_show_nobody(desk: Desk, lowly: Person, path: str) -> None:
    for person in (desk.person, lowly):
        answer = person.http.get(person.url + path, allow_redirects=False, timeout=30)
        assert answer.status_code in (404, 302, 308, 403), answer.status_code
        assert b"8:acs:" not in answer.content
