"""What stands in each line of the log, and that nothing a client sends gets into one unasked."""

import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.support.desk import Desk, bearer
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event, read_events
from tests.support.person import Person
from tests.support.raw_http import send_lines
from tests.support.service import Service
from tests.support.together import wait_until
from trusted_service.logs import without_secrets

# pragma: allowlist nextline secret (made up)
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl"
BREAK = '\r\n{"event": "forged"}\x1b[31m\u2028\u202e'


def get(service: Service, path: str, **headers: str) -> requests.Response:
    return requests.get(service.url + path, headers=headers, allow_redirects=False, timeout=30)


def test_every_line_says_when_what_whose_request_and_from_where(service: Service, signed_in: Person) -> None:
    for answer in (signed_in.get("/api/me"), signed_in.token(), signed_in.sign_out()):
        events = read_events(service, answer)
        # What is done after the answer may be logged behind it.
        assert [event["event"] for event in events].count("request") == 1
        for event in events:
            assert event["timestamp"].endswith("Z")
            assert (event["client"], event["user"]) == ("127.0.0.1", signed_in.key)
            assert event["level"] in ("info", "warning", "error")


def test_line_of_a_request_names_the_route(service: Service, desk: Desk, regular: Person) -> None:
    event = read_event(service, desk.look_at(regular), "request")
    assert event["route"] == "/api/admin/users/<uuid:tenant_id>/<uuid:object_id>"
    assert event["path"] == f"/api/admin/users/{regular.key}"


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/nothing", "/nothing"),
        ("/wp-admin/x.php?token=x", "/wp-admin/x.php"),
        (f"/{JWT}", "…"),
        (f"/api/me/{JWT}", "/api/me…"),
        (f"/admin/jobs/{JWT}", "/admin/jobs…"),
        (f"/static/{JWT}", "/static…"),
        ("/static/site.css", "/static/site.css"),
        ("/a/%0d%0aevent", "/a…"),
        ("/%1b[31m", "…"),
        ("/x//evil.example", "/x//evil.example"),
        ("/x" * 500, f"{'/x' * 8}…"),
    ],
)
def test_path_that_may_hold_anything_is_cut(service: Service, path: str, logged: str) -> None:
    assert read_event(service, get(service, path), "request")["path"] == logged


def plant_everywhere(service: Service, secret: str) -> None:
    """Send the secret in each place of a request where it has no business, or where it belongs."""
    places = {
        "Authorization": f"Bearer {secret}", "Cookie": f"session={secret}", "X-CSRFToken": secret,
        "User-Agent": secret, "Referer": f"{service.url}/?code={secret}", "Origin": secret,
        "Accept-Language": secret, "X-Request-ID": secret, "X-Forwarded-For": secret,
        "Content-Type": secret, "If-None-Match": secret, f"X-{secret.replace('=', '')}": secret,
    }  # fmt: skip
    for path in (f"/auth/callback?code={secret}&state={secret}", f"/{secret}", f"/api/{secret}?x={secret}"):
        get(service, path, **places)
        get(service, path, **{name: value for name, value in places.items() if name != "Authorization"})
    for path in ("/api/token", "/auth/sign-out", f"/auth/sign-out?csrf_token={secret}"):
        requests.post(service.url + path, data={"csrf_token": secret}, allow_redirects=False, timeout=30)
        requests.post(service.url + path, json={secret: secret}, allow_redirects=False, timeout=30)
    # What gunicorn refuses to read it would quote.
    for line in (f"GET /auth/callback?code={secret} x HTTP/1.1", f"GET /?code={secret} HTTP/9.9", secret):
        assert send_lines(service.url, line).status in (400, 505)
    for header in (f"{secret}", f"X Y: {secret}", f"X-{secret}\x01: x", f"X: \x00{secret}", f" {secret}: x"):
        assert send_lines(service.url, "GET / HTTP/1.1", header).status == 400
    assert send_lines(service.url, "POST /api/token HTTP/1.1", f"Transfer-Encoding: {secret}").status == 501
    send_lines(service.url, "POST /api/token HTTP/1.1", f"Expect: {secret}")
    chunk = secret.encode() + b"\r\n"
    assert (
        send_lines(service.url, "POST /api/token HTTP/1.1", "Transfer-Encoding: chunked", body=chunk).status
        == 400
    )


# pragma: allowlist nextline secret (made up)
@pytest.mark.parametrize("secret", [JWT, "Zr4u7xAbCdEfGhIjKlMnOpQrStUvWxYz", "x123456789abcdef" * 4])
def test_secret_in_the_wrong_place_is_not_logged(service: Service, secret: str) -> None:
    plant_everywhere(service, secret)
    assert_not_logged(service, secret)
    assert "Invalid HTTP request line" in service.log()  # but that there was one


def test_token_in_the_reason_of_a_block_is_not_logged(
    service: Service, desk: Desk, new_person: Callable[..., Person]
) -> None:
    person = new_person()
    answer = desk.do("page", person, "block", reason=f"their token {JWT} leaked")
    events = read_events(service, answer)
    assert [event["detail"] for event in events if event.get("target")] == ["their token [removed] leaked"]


def test_break_in_a_value_forges_no_line(
    service: Service, desk: Desk, new_person: Callable[..., Person]
) -> None:
    person = new_person(name=f"Eve{BREAK}")
    answer = desk.do("page", person, "block", reason=f"reason{BREAK}")
    assert [event["detail"] for event in read_events(service, answer) if event.get("target")]
    for path in ("/%0d%0a{forged}%1b[31m", f"/auth/callback?error=x{BREAK}", f"/admin/users?q=x{BREAK}"):
        desk.person.get(path)
    for line in service.log().split("\n")[:-1]:
        assert json.loads(line)["event"] != "forged"
        assert line.isprintable()


def test_codes_and_cookies_of_a_sign_in_are_not_logged(service: Service, person: Person) -> None:
    callback = person.start_sign_in()
    flow = [str(cookie.value) for cookie in person.http.cookies]
    assert person.finish_sign_in(callback).status_code == 302
    parameters = parse_qs(urlsplit(callback).query)
    session = person.http.cookies["session"]
    assert_not_logged(service, parameters["code"][0], parameters["state"][0], *flow, *session.split("."))


def test_events_have_the_names_of_owasp(
    azure: LocalAzure, service: Service, desk: Desk, new_person: Callable[..., Person]
) -> None:
    person = new_person()

    def names(answer: requests.Response) -> list[str]:
        return [event["event"] for event in read_events(service, answer)][:-1]

    assert names(person.sign_in()) == ["authn_login_success", "session_created"]
    first = person.token()
    wait_until(lambda: "user_created" in names_of_all(service, first))
    assert "authn_token_created" in names_of_all(service, first)
    assert names(person.sign_in()) == ["session_expired", "authn_login_success", "session_created"]
    csrf = person.csrf_headers()
    assert names(person.token({"scopes": "x"}, csrf=csrf)) == ["input_validation_fail"]
    assert names(person.get("/admin/users")) == ["authz_fail"]
    assert names(person.post("/api/token")) == ["authz_fail"]
    assert names(person.get("/api/me", headers={"Authorization": "Bearer x"})) == ["authn_login_fail"]
    assert names(person.get("/auth/callback?error=x")) == ["authn_login_fail"]
    for action, name in (
        ("revoke", "authn_token_revoked"),
        ("sign-out", "session_expired"),
        ("block", "user_updated"),
    ):
        assert names(desk.do("api", person, action)) == [name]
    assert names(person.get("/api/me")) == ["session_use_after_expire"]
    assert names(person.get("/api/me", headers=bearer(azure, person))) == ["authz_fail"]
    assert names(desk.do("api", person, "delete")) == ["user_deleted"]
    assert names(desk.person.get("/admin/users.csv")) == ["sensitive_read"]


def names_of_all(service: Service, answer: requests.Response) -> list[str]:
    return [event["event"] for event in read_events(service, answer)]


def test_refusal_of_a_known_user_names_them(
    azure: LocalAzure, service: Service, settled: Person, desk: Desk
) -> None:
    desk.do("api", settled, "block")
    answers = [
        settled.get("/api/me", headers=bearer(azure, settled)),
        settled.sign_in(),
        desk.person.post("/api/me/revoke"),
    ]
    for answer, person in zip(answers, (settled, settled, desk.person), strict=True):
        assert read_event(service, answer, "authz_fail")["user"] == person.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a {JWT} b", "a [removed] b"),
        (f"/{JWT}/x", "/[removed]/x"),
        ("AccountName=a;AccountKey=c2VjcmV0+/==;x", "AccountName=a;AccountKey=[removed];x"),
        ("endpoint=https://a/;accesskey=c2VjcmV0", "endpoint=https://a/;accesskey=[removed]"),
        ("eyJ is no token", "eyJ is no token"),
        ('{"event": "request"}', '{"event": "request"}'),
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
