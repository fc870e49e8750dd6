"""HTTP as no client library sends it: read in one way or refused, and never a failure of ours."""

import gzip
import json
import socket
from functools import partial

import pytest
import requests
from flask import Flask

from tests.support.desk import bearer
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.raw_http import RawAnswer, send_lines, send_raw
from tests.support.routes import list_routes
from tests.support.service import Service
from tests.support.together import run_together, timed

LARGEST = 16 * 1024
SILENCE_SECONDS = 10
JSON_TYPE = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
ELSEWHERE = (
    "evil.example",
    "evil.example:443",
    "user@evil.example",
    "a/b",
    "[::1",
    "",
    "é",
    "x" * 300,
    "a, b",
)


@pytest.fixture(scope="module")
def lines(regular: Person) -> tuple[str, str]:
    """The header lines of a session's own unsafe request."""
    return (
        f"Cookie: session={regular.http.cookies['session']}",
        f"X-CSRFToken: {regular.csrf_headers()['X-CSRFToken']}",
    )


def get_identity(answer: RawAnswer) -> object:
    """The identity that a token was issued for."""
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["user"]["communicationUserId"]


def in_chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def test_token_takes_a_body_in_chunks(service: Service, regular: Person, lines: tuple[str, str]) -> None:
    body = in_chunks(b'{"scopes"', b': ["chat"]}')
    answer = send_lines(service.url, "POST /api/token HTTP/1.1", *lines, JSON_TYPE, CHUNKED, body=body)
    assert get_identity(answer) == regular.me()["communicationUserId"]
    assert json.loads(answer.body)["scopes"] == ["chat"]


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}{}\r\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n", b"2 \r\n{}\r\n0\r\n\r\n",
        b"\r\n", b"2;a=\"\n\"\r\n{}\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_chunks_that_do_not_hold_together_are_refused(
    service: Service, lines: tuple[str, str], body: bytes
) -> None:
    for path in ("/api/token", "/auth/sign-out"):
        answer = send_lines(service.url, f"POST {path} HTTP/1.1", *lines, JSON_TYPE, CHUNKED, body=body)
        assert answer.status == 400, answer.body


@pytest.mark.parametrize("count", [LARGEST, LARGEST + 1, 4 * LARGEST])
def test_chunks_over_16_kib_are_too_large(service: Service, lines: tuple[str, str], count: int) -> None:
    body = in_chunks(b"{}", *([b" " * 1000] * (count // 1000)), b" " * (count % 1000 - 2))
    answer = send_lines(service.url, "POST /api/token HTTP/1.1", *lines, JSON_TYPE, CHUNKED, body=body)
    assert answer.status == (200 if count == LARGEST else 413)


@pytest.mark.parametrize(
    "length",
    [
        "-1",
        "+2",
        "2, 2",
        "2_0",
        "0x2",
        "\uff12",
        "2 2",
        "",
        "2\r\nContent-Length: 3",
    ],
)
def test_lengths_that_can_be_read_two_ways_are_refused(
    service: Service, lines: tuple[str, str], length: str
) -> None:
    length = length.encode().decode("latin-1")
    request = [*lines, JSON_TYPE, f"Content-Length: {length}"]
    assert send_lines(service.url, "POST /api/token HTTP/1.1", *request, body=b"{}").status in (400, 413)


@pytest.mark.parametrize(
    "encoding", ["chunked", "chunked, chunked", "identity, chunked", "x", "\x0bchunked", "chunKed"]
)
def test_length_and_chunks_at_once_are_one_request_or_none(
    service: Service, lines: tuple[str, str], encoding: str
) -> None:
    # What stands behind the body by one reading is a request of its own by the other.
    smuggled = f"GET /api/me HTTP/1.1\r\nHost: x\r\n{lines[0]}\r\n\r\n".encode()
    body = in_chunks(b"{}") + smuggled
    head = ["POST /api/token HTTP/1.1", "Host: x", *lines, JSON_TYPE, f"Content-Length: {len(body)}"]
    text = "\r\n".join([*head, f"Transfer-Encoding: {encoding}", "", ""]).encode("latin-1")
    answer = send_raw(service.url, text + body)
    assert answer.status in (400, 501)
    assert b"objectId" not in answer.body


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
def test_encoded_body_is_not_decoded(service: Service, lines: tuple[str, str], encoding: str) -> None:
    # A kilobyte of it could be a gigabyte of JSON.
    for body in (gzip.compress(b'{"scopes": ["chat"]}'), gzip.compress(b" " * 10_000_000 + b"{}")):
        request = [*lines, JSON_TYPE, f"Content-Encoding: {encoding}"]
        answer = send_lines(service.url, "POST /api/token HTTP/1.1", *request, body=body)
        assert (answer.status, json.loads(answer.body)["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "charset", ["utf-8", "UTF-16", "latin-1", "utf-7", "x", '"utf-8"', "utf-8; charset=utf-16"]
)
def test_charset_of_json_changes_nothing(service: Service, lines: tuple[str, str], charset: str) -> None:
    # RFC 8259 section 8.1: JSON is UTF-8, and its media type has no such parameter.
    content_type = f"{JSON_TYPE}; charset={charset}"
    for text, status in (('{"scopes": ["chat"]}', 200), ('{"scopes": ["+AGM-hat"]}', 400)):
        answer = send_lines(service.url, "POST /api/token HTTP/1.1", *lines, content_type, body=text.encode())
        assert answer.status == status
    body = '{"scopes": ["chat"]}'.encode("utf-16")
    answer = send_lines(service.url, "POST /api/token HTTP/1.1", *lines, content_type, body=body)
    assert answer.status == 400


def test_body_that_waits_for_leave_is_asked_for(
    service: Service, regular: Person, lines: tuple[str, str]
) -> None:
    expect = "Expect: 100-continue"
    answer = send_lines(service.url, "POST /api/token HTTP/1.1", *lines, JSON_TYPE, expect, body=b"{}")
    assert get_identity(answer) == regular.me()["communicationUserId"]


@pytest.mark.parametrize("expected", ["200-ok", "x", "100-continue, x"])
def test_other_expectations_are_refused(service: Service, lines: tuple[str, str], expected: str) -> None:
    request = [*lines, JSON_TYPE, f"Expect: {expected}"]
    assert send_lines(service.url, "POST /api/token HTTP/1.1", *request, body=b"{}").status == 417


@pytest.mark.parametrize("host", ELSEWHERE)
def test_host_is_never_repeated(azure: LocalAzure, application: Flask, service: Service, host: str) -> None:
    host = host.encode().decode("latin-1")
    for path in ("/", "/nothing", "/api/me", "/account", "/auth/sign-in", "/auth/callback", "/readyz"):
        answer = send_lines(service.url, f"GET {path} HTTP/1.1", host=host)
        assert answer.status < 500 or path == "/readyz"
        text = str(answer.headers) + answer.body.decode()
        assert not host or host not in text
        assert "evil.example" not in text
        if path == "/auth/sign-in" and answer.status == 302:
            assert answer.headers["Location"].startswith(azure.get_app().page_origin)


@pytest.mark.parametrize("scheme", ["http", "https", "ftp"])
def test_absolute_address_in_the_request_changes_no_link(service: Service, scheme: str) -> None:
    answer = send_lines(service.url, f"GET {scheme}://evil.example/auth/sign-in?next=/account HTTP/1.1")
    assert answer.status in (302, 400, 404)
    assert "evil" not in str(answer.headers) + answer.body.decode()
    answer = send_lines(service.url, f"GET {scheme}://evil.example/account HTTP/1.1")
    assert answer.headers.get("Location", "/").startswith("/")


@pytest.mark.parametrize(
    "target", ["*", "evil.example:443", "?", "#", "", "/\x00", "/é", "\\", "/%", "/%zz", "/%00"]
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT", "TRACE"])
def test_odd_target_is_no_failure_of_ours(service: Service, method: str, target: str) -> None:
    line = f"{method} {target} HTTP/1.1".encode().decode("latin-1")
    assert send_lines(service.url, line).status in (200, 302, 400, 404, 405)


@pytest.mark.parametrize("line", ["Host: a\r\nHost: b", "Host : a", " Host: a", "Host: a\r\n b"])
def test_second_host_is_refused(service: Service, line: str) -> None:
    assert send_lines(service.url, "GET / HTTP/1.1", line).status == 400


@pytest.mark.parametrize(
    "version", ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "HTTP/x", "http/1.1", ""]
)
def test_other_versions_are_refused_or_served_plainly(service: Service, version: str) -> None:
    answer = send_lines(service.url, f"GET /api/me {version}".rstrip())
    assert answer.status in (400, 401, 505)


def test_underscores_in_names_of_headers_pretend_nothing(
    azure: LocalAzure, service: Service, regular: Person, lines: tuple[str, str]
) -> None:
    # WSGI makes one name of X-CSRFToken and X_CSRFToken, so a proxy could have let the second one through.
    cookie, csrf = lines
    for line in (csrf.replace("-", "_"), csrf.replace("X-", "X_")):
        assert send_lines(service.url, "POST /api/token HTTP/1.1", cookie, line).status in (400, 403)
    token = bearer(azure, regular)["Authorization"]
    for name in ("HTTP_AUTHORIZATION", "Authorization_", "_Authorization"):
        assert send_lines(service.url, "GET /api/me HTTP/1.1", f"{name}: {token}").status in (400, 401)
    answer = send_lines(service.url, "GET /auth/sign-in HTTP/1.1", "X_Forwarded_Host: evil.example")
    assert "evil" not in str(answer.headers)


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/9.9",
        "GET  / HTTP/1.1",
        "G<ET / HTTP/1.1",
        "GET /" + "x" * 9000 + " HTTP/1.1",
        "<script> x y",
    ],
)
def test_what_gunicorn_refuses_itself_says_nothing_about_it(service: Service, request_line: str) -> None:
    answer = send_lines(service.url, request_line)
    assert 400 <= answer.status <= 505
    assert "Server" not in answer.headers
    text = answer.body.decode()
    assert "gunicorn" not in text.lower()
    assert "<script>" not in text
    assert "Traceback" not in text


OVERRIDES = {
    **dict.fromkeys(("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"), "DELETE"),
    **dict.fromkeys(
        ("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Uri"), "/api/admin/users"
    ),
    **dict.fromkeys(("X-Forwarded-Prefix", "X-Script-Name", "Script-Name", "X-Forwarded-Path"), "/admin"),
    **dict.fromkeys(("X-Forwarded-User", "Remote-User", "X-User-ID"), "00000000-0000-4000-8000-000000000001"),
    **dict.fromkeys(("X-Client-IP", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP"), "192.0.2.1"),
    **dict.fromkeys(("X-MS-CLIENT-PRINCIPAL", "X-MS-TOKEN-AAD-ACCESS-TOKEN"), "eyJyb2xlcyI6WyJBZG1pbiJdfQ=="),
    "X-MS-CLIENT-PRINCIPAL-ID": "00000000-0000-4000-8000-000000000001",
    "X-MS-CLIENT-PRINCIPAL-IDP": "aad",
}


def test_no_header_makes_a_request_another_one(application: Flask, regular: Person) -> None:
    for route in list_routes(application):
        if not route.is_safe or route.path in ("/auth/sign-in", "/account", "/readyz"):
            continue  # these are told apart by more than their status
        plain = regular.http.request(
            route.method, regular.url + route.path, allow_redirects=False, timeout=30
        )
        dressed = regular.http.request(
            route.method,
            regular.url + route.path,
            params={"_method": "DELETE", "X-HTTP-Method-Override": "DELETE"},
            headers=OVERRIDES,
            allow_redirects=False,
            timeout=30,
        )
        assert dressed.status_code == plain.status_code, route
        if route.path == "/api/me" and route.method == "GET":
            assert dressed.json() == plain.json()
    assert regular.me()["communicationUserId"]


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get", "XYZZY"])
def test_methods_that_nobody_takes_are_405_on_every_route(
    application: Flask, service: Service, regular: Person, lines: tuple[str, str], method: str
) -> None:
    for path in {route.path for route in list_routes(application)}:
        answer = send_lines(service.url, f"{method} {path} HTTP/1.1", *lines, "X-Secret: echo-me")
        assert answer.status in (400, 405), path
        assert b"echo-me" not in answer.body
        assert answer.status == 400 or "GET" in answer.headers["Allow"] or "POST" in answer.headers["Allow"]


def test_options_does_nothing_and_says_nothing(application: Flask, service: Service, regular: Person) -> None:
    for path in {route.path for route in list_routes(application)}:
        answer = regular.http.options(service.url + path, headers=regular.csrf_headers(), timeout=30)
        assert answer.status_code in (200, 204, 401, 403), path
        assert answer.content == b"" or answer.status_code >= 400
    assert regular.get("/api/me").status_code == 200


def test_app_only_token_is_refused_on_every_route_of_a_user(
    application: Flask, azure: LocalAzure, service: Service
) -> None:
    token, _ = azure.mint_tokens(app=True)
    for route in list_routes(application):
        if route.is_api and not route.path.startswith("/api/admin/"):
            answer = requests.request(
                route.method,
                service.url + route.path,
                headers={"Authorization": f"Bearer {token}"},
                timeout=30,
            )
            assert answer.status_code == 403, route
            if route.method != "HEAD":
                assert_problem(answer, 403, "insufficient_scope")


def test_client_that_falls_silent_in_a_request_holds_nothing_for_long(
    service: Service, lines: tuple[str, str]
) -> None:
    head = "\r\n".join(["POST /api/token HTTP/1.1", "Host: x", *lines, JSON_TYPE])
    halves = [
        head,
        f"{head}\r\nContent-Length: 2\r\n\r\n{{",
        f"{head}\r\nContent-Length: 99999999999999999999999999\r\n\r\n{{}}",
        f"{head}\r\n{CHUNKED}\r\n\r\n2\r\n{{",
        f"{head}\r\n{CHUNKED}\r\n\r\n2\n{{}}\n0\n\n",
    ]
    outcomes = run_together([partial(timed, partial(send_until_closed, service, half)) for half in halves])
    for answer, seconds in outcomes:
        assert SILENCE_SECONDS - 1 < seconds < SILENCE_SECONDS + 5
        assert b" 200 " not in answer


def send_until_closed(service: Service, half: str) -> bytes:
    """Send that and no more; all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(half.encode())
        return connection.makefile("rb").read()
