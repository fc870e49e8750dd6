"""POST /api/token: refused callers, methods, paths and CSRF values."""

import json

import pytest
import requests

from tests.support.cookies import SESSION
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service, request_lines
from tests.support.storage_proxy import StorageProxy

NAMES = ("X-MS-CLIENT-PRINCIPAL-NAME", "X-Forwarded-User", "Remote-User", "X-Remote-User")
IDENTITY_HEADERS = dict.fromkeys(NAMES, "admin@contoso.example") | {
    "X-MS-CLIENT-PRINCIPAL": "eyJ1c2VySWQiOiAiYWRtaW4ifQ==",
    "X-MS-CLIENT-PRINCIPAL-ID": "00000000-0000-0000-0000-000000000001",
    # pragma: allowlist nextline secret (made up)
    "X-MS-TOKEN-AAD-ID-TOKEN": "eyJhbGciOiJub25lIn0.e30.",
}


@pytest.fixture(scope="module")
def csrf(shared_user: Person) -> dict[str, str]:
    return shared_user.csrf_headers()


def test_signed_out_caller_is_refused_without_upstream_calls(
    azure: LocalAzure, storage_proxy: StorageProxy, person: Person
) -> None:
    azure.reset_calls()
    for headers in ({}, {"X-CSRFToken": "x"}, {"Accept": "text/html"}, IDENTITY_HEADERS):
        for response in (person.post("/api/token", headers=headers), person.get("/api/me", headers=headers)):
            assert_problem(response, 401, "not_signed_in")
            assert storage_proxy.calls_for(response) == []
    assert_problem(person.get("/api/token"), 405, "method_not_allowed")
    assert azure.count_calls("acs") == {}
    for cookie in (f"{SESSION}=x", f"{SESSION}="):
        assert_problem(person.get("/api/me", headers={"Cookie": cookie}), 401, "not_signed_in")


def test_missing_or_wrong_csrf_value_is_refused(
    shared_user: Person, csrf: dict[str, str], signed_in: Person
) -> None:
    value, other = csrf["X-CSRFToken"], signed_in.csrf_headers()["X-CSRFToken"]
    wrongs = ["", "x", "null", "A" * 5000, "é".encode().decode("latin-1"), other, value[:-1], value + "A"]
    for wrong in (*wrongs, ("B" if value[0] == "A" else "A") + value[1:], value.swapcase()):
        assert_problem(shared_user.token(csrf={"X-CSRFToken": wrong}), 403, "csrf_failed")
    for options in ({}, {"params": {"csrf_token": value}}, {"cookies": {"csrf_token": value}}):
        assert_problem(shared_user.post("/api/token", **options), 403, "csrf_failed")


def test_form_with_the_csrf_field_gets_no_token(shared_user: Person, csrf: dict[str, str]) -> None:
    response = shared_user.post("/api/token", data={"csrf_token": csrf["X-CSRFToken"]})
    assert_problem(response, 415, "unsupported_media_type")


def test_foreign_origin_is_refused_despite_valid_csrf(
    service: Service, shared_user: Person, csrf: dict[str, str]
) -> None:
    own = service.url
    foreign = ["https://evil.example", "null", "", "http://localhost", f"{own}.evil.example", f"{own}/"]
    foreign += [own.replace("http:", "https:"), own.upper(), f"{own}, {own}"]
    for origin in foreign:
        assert_problem(shared_user.token(csrf=csrf | {"Origin": origin}), 403, "csrf_failed")
    assert shared_user.token(csrf=csrf | {"Origin": own}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api", "/api/", "/api//token", "/api/token/", "/api/token//", "/api/token/x", "/api/Token",
        "/api/nothing", "/api/%2e%2e/healthz", "/api/%FF", "/api/token%00", "/api/token%2F", "/api/token;x=1",
        "/api/./token", "/api/me/token", "/api/users/me",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_unknown_path_is_404_and_never_redirected(shared_user: Person, method: str, path: str) -> None:
    request = requests.Request(method, shared_user.url).prepare()
    request.url = shared_user.url + path  # prepare() would normalize it
    response = shared_user.http.send(request, allow_redirects=False, timeout=10)
    assert response.status_code == 404
    assert "Location" not in response.headers
    if method != "HEAD":
        assert_problem(response, 404, "not_found")


def test_request_cannot_name_another_user(shared_user: Person, csrf: dict[str, str]) -> None:
    mine = shared_user.me()["communicationUserId"]
    options = {"user": "x", "objectId": "x", "communicationUserId": "8:acs:x_y", "expiresInMinutes": "1440"}
    response = shared_user.post("/api/token", headers=csrf | IDENTITY_HEADERS, params=options)
    assert response.status_code == 200
    assert response.json()["user"]["communicationUserId"] == mine


def test_every_refusal_is_logged_with_its_code(
    service: Service, shared_user: Person, person: Person, csrf: dict[str, str]
) -> None:
    refusals = [
        person.post("/api/token"),
        shared_user.post("/api/token"),
        shared_user.token({"scopes": []}, csrf=csrf),
        shared_user.get("/api/token"),
        shared_user.get("/api/nothing"),
        shared_user.post("/api/token", headers=csrf, data="x"),
        shared_user.post("/api/token", headers=csrf, data="x" * 20_000),
    ]
    log = service.log()
    for problem in [response.json() for response in refusals]:
        last = json.loads(request_lines(log, problem["requestId"])[-1])
        assert last | {"event": "request", "status": problem["status"], "code": problem["code"]} == last


def test_service_generates_request_ids(shared_user: Person, csrf: dict[str, str]) -> None:
    # pragma: allowlist nextline secret (no secret: an id)
    theirs = "0123456789abcdef0123456789abcdef"
    ids = dict.fromkeys(("X-Request-ID", "x-ms-client-request-id"), theirs)
    ids["traceparent"] = f"00-{theirs}-{'1' * 16}-01"
    received = {shared_user.token(csrf=csrf | ids).headers["X-Request-ID"] for _ in range(5)}
    assert len(received) == 5
    assert theirs not in received
