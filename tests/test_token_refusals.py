"""POST /api/token by those who may not, and in ways one may not: what each is told."""

import json
from collections.abc import Callable

import pytest
import requests

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service, request_lines
from tests.support.storage_proxy import StorageProxy

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]


@pytest.fixture
def stranger(new_person: Callable[..., Person]) -> Person:
    """A browser without a session."""
    return new_person()


@pytest.fixture(scope="module")
def csrf(regular: Person) -> dict[str, str]:
    return regular.csrf_headers()


@pytest.fixture(scope="module")
def other_csrf(new_person: Callable[..., Person]) -> str:
    """The CSRF value of somebody else's session."""
    other = new_person()
    other.sign_in()
    return other.csrf_headers()["X-CSRFToken"]


def test_signed_out_caller_is_told_so(stranger: Person) -> None:
    for headers in ({}, {"X-CSRFToken": "x"}, {"Accept": "text/html"}):
        assert_problem(stranger.post("/api/token", headers=headers), 401, "not_signed_in")


def test_signed_out_caller_costs_no_upstream_call(
    azure: LocalAzure, storage_proxy: StorageProxy, stranger: Person
) -> None:
    azure.reset_calls()
    storage_proxy.clear()
    stranger.post("/api/token")
    assert storage_proxy.calls() == []
    assert azure.count_calls("acs") == {}


@pytest.mark.parametrize("value", [None, "", "x", "null", "A" * 5000, "é".encode()], ids=repr)
def test_missing_or_wrong_csrf_value_is_refused(regular: Person, value: str | bytes | None) -> None:
    headers = {} if value is None else {"X-CSRFToken": value}
    assert_problem(regular.post("/api/token", headers=headers), 403, "csrf_failed")


def test_csrf_value_of_another_session_is_refused(regular: Person, other_csrf: str) -> None:
    assert_problem(regular.token(csrf={"X-CSRFToken": other_csrf}), 403, "csrf_failed")


def test_csrf_value_changed_in_one_place_is_refused(regular: Person, csrf: dict[str, str]) -> None:
    value = csrf["X-CSRFToken"]
    for changed in (value[:-1], value + "A", ("B" if value[0] == "A" else "A") + value[1:], value.swapcase()):
        assert_problem(regular.token(csrf={"X-CSRFToken": changed}), 403, "csrf_failed")


def test_csrf_value_in_query_or_cookie_is_refused(regular: Person, csrf: dict[str, str]) -> None:
    value = csrf["X-CSRFToken"]
    answer = regular.post("/api/token", params={"csrf_token": value}, cookies={"csrf_token": value})
    assert_problem(answer, 403, "csrf_failed")


def test_form_with_the_csrf_field_gets_no_token(regular: Person, csrf: dict[str, str]) -> None:
    answer = regular.post("/api/token", data={"csrf_token": csrf["X-CSRFToken"]})
    assert_problem(answer, 415, "unsupported_media_type")


def test_foreign_origin_is_refused_whatever_the_value(
    service: Service, regular: Person, csrf: dict[str, str]
) -> None:
    foreign = [
        "https://evil.example",
        "null",
        "",
        service.url + ".evil.example",
        service.url + "/",
        "http://localhost",
    ]
    foreign += [service.url.replace("http:", "https:"), service.url.upper(), f"{service.url}, {service.url}"]
    for origin in foreign:
        assert_problem(regular.token(csrf=csrf | {"Origin": origin}), 403, "csrf_failed")


def test_own_origin_is_welcome(service: Service, regular: Person, csrf: dict[str, str]) -> None:
    assert regular.token(csrf=csrf | {"Origin": service.url}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("signed_in", [True, False])
def test_other_methods_are_not_allowed(
    regular: Person, stranger: Person, csrf: dict[str, str], method: str, signed_in: bool
) -> None:
    person = regular if signed_in else stranger
    answer = person.http.request(method, f"{person.url}/api/token", headers=csrf, timeout=10)
    assert_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize(
    "path",
    [
        "/api", "/api/", "/api//token", "/api/token/", "/api/token//", "/api/token/x", "/api/Token",
        "/api/nothing", "/api/%2e%2e/healthz", "/api/%FF", "/api/token%00", "/api/token%2F", "/api/token;x=1",
        "/api/./token", "/api/me/token", "/api/users/me",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_unknown_path_is_not_found_and_never_redirected(regular: Person, method: str, path: str) -> None:
    request = requests.Request(method, regular.url).prepare()
    request.url = regular.url + path  # as it is: prepare() would tidy it up
    with requests.Session() as session:
        session.trust_env = False
        answer = session.send(request, allow_redirects=False, timeout=10)
    assert answer.status_code == 404
    assert "Location" not in answer.headers
    if method != "HEAD":
        assert_problem(answer, 404, "not_found")


IDENTITY_HEADERS = {
    "X-MS-CLIENT-PRINCIPAL": "eyJ1c2VySWQiOiAiYWRtaW4ifQ==",
    "X-MS-CLIENT-PRINCIPAL-ID": "00000000-0000-0000-0000-000000000001",
    "X-MS-CLIENT-PRINCIPAL-NAME": "admin@contoso.example",
    # pragma: allowlist nextline secret (made up)
    "X-MS-TOKEN-AAD-ID-TOKEN": "eyJhbGciOiJub25lIn0.e30.",
    "X-Forwarded-User": "admin@contoso.example",
    "Remote-User": "admin@contoso.example",
    "X-Remote-User": "admin@contoso.example",
}


def test_headers_of_other_sign_ins_make_nobody_signed_in(stranger: Person) -> None:
    assert_problem(stranger.post("/api/token", headers=IDENTITY_HEADERS), 401, "not_signed_in")
    assert_problem(stranger.get("/api/me", headers=IDENTITY_HEADERS), 401, "not_signed_in")


def test_nothing_in_a_request_can_name_another_user(regular: Person, csrf: dict[str, str]) -> None:
    mine = regular.me()["communicationUserId"]
    elsewhere = {"user": "x", "objectId": "x", "communicationUserId": "8:acs:x_y", "expiresInMinutes": "1440"}
    answer = regular.post("/api/token", headers=csrf | IDENTITY_HEADERS, params=elsewhere)
    assert answer.status_code == 200
    assert answer.json()["user"]["communicationUserId"] == mine


@pytest.mark.parametrize("header", OVERRIDES)
def test_method_override_is_ignored(regular: Person, csrf: dict[str, str], header: str) -> None:
    assert_problem(
        regular.get("/api/token", headers=csrf | {header: "POST"}, params={"_method": "POST"}),
        405,
        "method_not_allowed",
    )
    assert regular.token(csrf=csrf | {header: "DELETE"}).status_code == 200


def test_every_refusal_stands_in_the_log_with_its_code(
    service: Service, regular: Person, stranger: Person, csrf: dict[str, str]
) -> None:
    refusals = [
        stranger.post("/api/token"),
        regular.post("/api/token"),
        regular.token({"scopes": []}, csrf=csrf),
        regular.get("/api/token"),
        regular.get("/api/nothing"),
        regular.post("/api/token", headers=csrf, data="x"),
        regular.post("/api/token", headers=csrf, data="x" * 20_000),
    ]
    log = service.log()
    for answer in refusals:
        problem = answer.json()
        lines = [json.loads(line) for line in request_lines(log, problem["requestId"])]
        last = lines[-1]
        assert last["event"] == "request"
        assert (last["status"], last["code"]) == (problem["status"], problem["code"])


def test_request_ids_are_our_own_and_never_the_same(regular: Person, csrf: dict[str, str]) -> None:
    # pragma: allowlist nextline secret (no secret: an id)
    theirs = "0123456789abcdef0123456789abcdef"
    sent = csrf | {
        "X-Request-ID": theirs,
        "x-ms-client-request-id": theirs,
        "traceparent": f"00-{theirs}-{'1' * 16}-01",
    }
    given = {regular.token(csrf=sent).headers["X-Request-ID"] for _ in range(5)}
    assert len(given) == 5
    assert theirs not in given
