"""Log lines: their fields, and no secret or forged line from a client."""

import json
from collections.abc import Callable

import pytest
import requests

from tests.support.admin_client import Admin, bearer
from tests.support.concurrency import wait_until
from tests.support.cookies import SESSION
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event, read_events
from tests.support.person import Person
from tests.support.raw_http import send_lines
from tests.support.service import Service
from trusted_service.models import without_secrets

# pragma: allowlist nextline secret (made up)
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl"
BREAK = '\r\n{"event": "forged"}\x1b[31m\u2028\u202e'


def get(service: Service, path: str, **headers: str) -> requests.Response:
    return requests.get(service.url + path, headers=headers, allow_redirects=False, timeout=30)


def names(service: Service, response: requests.Response) -> list[str]:
    return [event["event"] for event in read_events(service, response)]


def test_every_line_names_time_user_and_client(service: Service, signed_in: Person) -> None:
    for response in (signed_in.get("/api/me"), signed_in.token(), signed_in.sign_out()):
        # Background tasks may log after the request's own line.
        assert names(service, response).count("request") == 1
        for event in read_events(service, response):
            assert event["timestamp"].endswith("Z")
            assert (event["client"], event["user"]) == ("127.0.0.1", signed_in.key)
            assert event["level"] in ("info", "warning", "error")


def test_libraries_that_see_secrets_log_nothing(service: Service, new_person: Callable[..., Person]) -> None:
    person = new_person()
    assert person.sign_in().status_code == 302
    assert person.token().status_code == 200
    loggers = {json.loads(line)["logger"].partition(".")[0] for line in service.log().splitlines()}
    assert "trusted_service" in loggers
    assert loggers & {"azure", "msal", "urllib3"} == set()


def test_request_log_names_route_not_path(service: Service, admin: Admin, shared_user: Person) -> None:
    event = read_event(service, admin.fetch_user(shared_user), "request")
    assert event["route"] == "/api/admin/users/<uuid:tenant_id>/<uuid:object_id>"
    event = read_event(service, get(service, "/wp-admin/x.php?token=x"), "request")
    assert (event["route"], "path" in event) == (None, False)


def plant_everywhere(service: Service, secret: str) -> None:
    """Send the secret in every part of a request, whether it belongs there or not."""
    places = {
        "Authorization": f"Bearer {secret}", "Cookie": f"{SESSION}={secret}", "X-CSRFToken": secret,
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
    # By default, gunicorn quotes malformed requests in its log.
    for line in (f"GET /auth/callback?code={secret} x HTTP/1.1", f"GET /?code={secret} HTTP/9.9", secret):
        assert send_lines(service.url, line).status in (400, 505)
    for header in (f"{secret}", f"X Y: {secret}", f"X-{secret}\x01: x", f"X: \x00{secret}", f" {secret}: x"):
        assert send_lines(service.url, "GET / HTTP/1.1", header).status == 400
    assert send_lines(service.url, "POST /api/token HTTP/1.1", f"Transfer-Encoding: {secret}").status == 501
    send_lines(service.url, "POST /api/token HTTP/1.1", f"Expect: {secret}")
    chunked, chunk = "Transfer-Encoding: chunked", secret.encode() + b"\r\n"
    assert send_lines(service.url, "POST /api/token HTTP/1.1", chunked, body=chunk).status == 400


# pragma: allowlist nextline secret (made up)
@pytest.mark.parametrize("secret", [JWT, "Zr4u7xAbCdEfGhIjKlMnOpQrStUvWxYz", "x123456789abcdef" * 4])
def test_secret_in_the_wrong_place_is_not_logged(service: Service, secret: str) -> None:
    plant_everywhere(service, secret)
    assert_not_logged(service, secret)
    assert "Invalid HTTP request line" in service.log()  # but the error is


def test_line_break_forges_no_log_line(
    service: Service, admin: Admin, new_person: Callable[..., Person]
) -> None:
    person = new_person(name=f"Eve{BREAK}")
    response = admin.do("page", person, "block", reason=f"their token {JWT} leaked{BREAK}")
    (detail,) = [event["detail"] for event in read_events(service, response) if event.get("target")]
    assert detail.startswith("their token [removed] leaked")
    for path in ("/%0d%0a{forged}%1b[31m", f"/auth/callback?error=x{BREAK}", f"/admin/users?q=x{BREAK}"):
        admin.person.get(path)
    for line in service.log().split("\n")[:-1]:
        assert json.loads(line)["event"] != "forged"
        assert line.isprintable()


def test_events_use_owasp_names(
    azure: LocalAzure, service: Service, admin: Admin, new_person: Callable[..., Person]
) -> None:
    person = new_person()

    def check(response: requests.Response, *expected: str) -> None:
        assert names(service, response) == [*expected, "request"]

    check(person.sign_in(), "authn_login_success", "session_created")
    first = person.token()
    wait_until(lambda: "user_created" in names(service, first))
    assert "authn_token_created" in names(service, first)
    check(person.sign_in(), "session_expired", "authn_login_success", "session_created")
    check(person.token({"scopes": "x"}), "input_validation_fail")
    check(person.get("/admin/users"), "authz_fail")
    check(person.post("/api/token"), "authz_fail")
    check(person.get("/api/me", headers={"Authorization": "Bearer x"}), "authn_login_fail")
    check(person.get("/auth/callback?error=x"), "authn_login_fail")
    check(admin.do("api", person, "revoke"), "authn_token_revoked")
    check(admin.do("api", person, "sign-out"), "session_expired")
    check(admin.do("api", person, "block"), "user_updated")
    check(person.get("/api/me"), "session_use_after_expire")
    check(person.get("/api/me", headers=bearer(azure, person)), "authz_fail")
    check(admin.do("api", person, "delete"), "user_deleted")
    file = admin.person.get("/admin/users.csv")  # it is streamed after the request
    wait_until(lambda: names(service, file) == ["request", "sensitive_read"])


def test_refusal_names_a_known_user(
    azure: LocalAzure, service: Service, mapped_user: Person, admin: Admin
) -> None:
    admin.do("api", mapped_user, "block")
    for response, person in (
        (mapped_user.get("/api/me", headers=bearer(azure, mapped_user)), mapped_user),
        (mapped_user.sign_in(), mapped_user),
        (admin.person.post("/api/me/revoke"), admin.person),
    ):
        for name in ("authz_fail", "request"):
            assert read_event(service, response, name)["user"] == person.key


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        *((f"a {JWT} b", JWT), (f"/{JWT}/x", JWT), ("eyJ is no token", "-"), ('{"event": "request"}', "-")),
        ("AccountName=a;AccountKey=c2VjcmV0+/==;x", "c2VjcmV0+/=="),
        ("endpoint=https://a/;accesskey=c2Vj", "c2Vj"),
        ("https://a.table.core.windows.net/x?sv=1&sig=c2Vj%2B%3D&se=2", "c2Vj%2B%3D"),
        (f"sign-in=.eJw{JWT[3:]}; x", f".eJw{JWT[3:]}"),  # itsdangerous compresses what it signs
    ],
)
def test_secret_like_text_is_removed(text: str, secret: str) -> None:
    assert without_secrets(text) == text.replace(secret, "[removed]")
