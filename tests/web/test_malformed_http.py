"""Malformed HTTP: refused or read unambiguously, and never an internal error."""

import gzip
import json
import socket
from collections.abc import Callable
from functools import partial

import pytest
from flask import Flask

from tests.support.admin_client import bearer
from tests.support.concurrency import run_concurrently, timed
from tests.support.cookies import SESSION
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.raw_http import RawResponse, send_lines, send_raw
from tests.support.routes import list_routes
from tests.support.service import Service

TIMEOUT_SECONDS = 10
JSON_TYPE = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"

PostToken = Callable[..., RawResponse]


@pytest.fixture(scope="module")
def lines(shared_user: Person) -> tuple[str, str]:
    """The session and CSRF header lines of an unsafe request."""
    csrf = shared_user.csrf_headers()["X-CSRFToken"]
    return f"Cookie: {SESSION}={shared_user.http.cookies[SESSION]}", f"X-CSRFToken: {csrf}"


@pytest.fixture
def post_token(service: Service, lines: tuple[str, str]) -> PostToken:
    """Requests a token for the session, with more header lines and a JSON body."""
    return partial(send_lines, service.url, "POST /api/token HTTP/1.1", *lines, JSON_TYPE)


def in_chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def test_chunks_and_100_continue_are_accepted(post_token: PostToken) -> None:
    whole, parts = b'{"scopes": ["chat"]}', in_chunks(b'{"scopes"', b': ["chat"]}')
    for line, body in ((CHUNKED, parts), ("Expect: 100-continue", whole)):
        assert json.loads(post_token(line, body=body).body).get("scopes") == ["chat"]


@pytest.mark.parametrize(
    ("line", "body", "statuses"),
    [
        *((CHUNKED, body + b"\r\n0\r\n\r\n", {400}) for body in (b"zz\r\n{}", b"-2\r\n{}", b"2\r\n{}{}")),
        *((CHUNKED, body + b"\r\n0\r\n\r\n", {400}) for body in (b"0x2\r\n{}", b"2 \r\n{}")),
        (CHUNKED, b'2;a="\n"\r\n{}\r\n0\r\n\r\n', {400}),
        *((CHUNKED, body, {400}) for body in (b"\r\n", b"2\r\n{}0\r\n\r\n")),
        *((f"Content-Length: {length}", b"{}", {400, 413}) for length in ("-1", "+2", "2, 2", "2_0", "0x2")),
        *((f"Content-Length: {length}", b"{}", {400, 413}) for length in ("\uff12", "2 2", "")),
        ("Content-Length: 2\r\nContent-Length: 3", b"{}", {400, 413}),
        *((f"Expect: {expected}", b"{}", {417}) for expected in ("200-ok", "x", "100-continue, x")),
    ],
)
def test_ambiguous_body_is_refused(
    service: Service, lines: tuple[str, str], line: str, body: bytes, statuses: set[int]
) -> None:
    line = line.encode().decode("latin-1")
    for path in ("/api/token", "/auth/sign-out") if line == CHUNKED else ("/api/token",):
        response = send_lines(service.url, f"POST {path} HTTP/1.1", *lines, JSON_TYPE, line, body=body)
        assert response.status in statuses, response.body


@pytest.mark.parametrize(
    "encoding", ["chunked", "chunked, chunked", "identity, chunked", "x", "\x0bchunked", "chunKed"]
)
def test_chunks_with_length_smuggle_nothing(service: Service, lines: tuple[str, str], encoding: str) -> None:
    # By one header, the second request is part of the body; by the other, it follows the body.
    smuggled = f"GET /api/me HTTP/1.1\r\nHost: x\r\n{lines[0]}\r\n\r\n".encode()
    body = in_chunks(b"{}") + smuggled
    head = ["POST /api/token HTTP/1.1", "Host: x", *lines, JSON_TYPE, f"Content-Length: {len(body)}"]
    text = "\r\n".join([*head, f"Transfer-Encoding: {encoding}", "", ""]).encode("latin-1")
    response = send_raw(service.url, text + body)
    assert response.status in (400, 501)
    assert b"objectId" not in response.body


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
def test_encoded_body_is_not_decoded(post_token: PostToken, encoding: str) -> None:
    # A compressed kilobyte could expand to a gigabyte of JSON.
    for text in (b'{"scopes": ["chat"]}', b" " * 10_000_000 + b"{}"):
        response = post_token(f"Content-Encoding: {encoding}", body=gzip.compress(text))
        assert (response.status, json.loads(response.body)["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "charset", ["utf-8", "UTF-16", "latin-1", "utf-7", "x", '"utf-8"', "utf-8; charset=utf-16"]
)
def test_json_charset_is_ignored(service: Service, lines: tuple[str, str], charset: str) -> None:
    # RFC 8259 section 8.1: JSON is UTF-8, and its media type has no charset parameter.
    head = ("POST /api/token HTTP/1.1", *lines, f"{JSON_TYPE}; charset={charset}")
    good = '{"scopes": ["chat"]}'
    assert send_lines(service.url, *head, body=good.encode()).status == 200
    for body in (b'{"scopes": ["+AGM-hat"]}', good.encode("utf-16")):
        assert send_lines(service.url, *head, body=body).status == 400


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:443", "user@evil.example", "a/b", "[::1", "", "é", "x" * 300, "a, b"],
)
def test_host_header_is_never_echoed(azure: LocalAzure, service: Service, host: str) -> None:
    host = host.encode().decode("latin-1")
    for path in ("/", "/nothing", "/api/me", "/account", "/auth/sign-in", "/auth/callback", "/readyz"):
        response = send_lines(service.url, f"GET {path} HTTP/1.1", host=host)
        assert response.status < 500 or path == "/readyz"
        text = str(response.headers) + response.body.decode()
        assert not host or host not in text
        assert "evil.example" not in text
        if path == "/auth/sign-in" and response.status == 302:
            expected = f"{service.url}/auth/sign-in?moved=1" if host else azure.get_app().page_origin
            assert response.headers["Location"].startswith(expected)


@pytest.mark.parametrize("scheme", ["http", "https", "ftp"])
def test_absolute_request_target_changes_no_link(service: Service, scheme: str) -> None:
    response = send_lines(service.url, f"GET {scheme}://evil.example/auth/sign-in?next=/account HTTP/1.1")
    assert response.status in (302, 400, 404)
    assert "evil" not in str(response.headers) + response.body.decode()
    response = send_lines(service.url, f"GET {scheme}://evil.example/account HTTP/1.1")
    assert response.headers.get("Location", "/").startswith("/")


@pytest.mark.parametrize(
    "target", ["*", "evil.example:443", "?", "#", "", "/\x00", "/é", "\\", "/%", "/%zz", "/%00"]
)
def test_malformed_target_is_no_internal_error(service: Service, target: str) -> None:
    for method in ("GET", "OPTIONS", "CONNECT", "TRACE"):
        line = f"{method} {target} HTTP/1.1".encode().decode("latin-1")
        assert send_lines(service.url, line).status in (200, 302, 400, 404, 405), method


@pytest.mark.parametrize("line", ["Host: a\r\nHost: b", "Host : a", " Host: a", "Host: a\r\n b"])
def test_ambiguous_host_is_refused(service: Service, line: str) -> None:
    assert send_lines(service.url, "GET / HTTP/1.1", line).status == 400


@pytest.mark.parametrize(
    "request_line",
    [
        *(f"GET /api/me {version}" for version in ("HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "HTTP/x")),
        *("GET /api/me http/1.1", "GET /api/me", "GET  / HTTP/1.1", "G<ET / HTTP/1.1", "<script> x y"),
        f"GET /{'x' * 9000} HTTP/1.1",
    ],
)
def test_malformed_request_line_is_refused_or_served(service: Service, request_line: str) -> None:
    response = send_lines(service.url, request_line)
    assert response.status in (400, 401, 405, 414, 505)
    assert "Server" not in response.headers
    for word in (b"gunicorn", b"<script>", b"traceback"):
        assert word not in response.body.lower()


def test_underscored_header_names_are_ignored(
    azure: LocalAzure, service: Service, shared_user: Person, lines: tuple[str, str]
) -> None:
    # WSGI maps X-CSRFToken and X_CSRFToken to one name, so a proxy's filter could miss the second.
    cookie, csrf = lines
    for line in (csrf.replace("-", "_"), csrf.replace("X-", "X_")):
        assert send_lines(service.url, "POST /api/token HTTP/1.1", cookie, line).status in (400, 403)
    token = bearer(azure, shared_user)["Authorization"]
    for name in ("HTTP_AUTHORIZATION", "Authorization_", "_Authorization"):
        assert send_lines(service.url, "GET /api/me HTTP/1.1", f"{name}: {token}").status in (400, 401)
    response = send_lines(service.url, "GET /auth/sign-in HTTP/1.1", "X_Forwarded_Host: evil.example")
    assert "evil" not in str(response.headers)


OVERRIDES = {
    name: value
    for value, names in {
        "DELETE": ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"),
        "/api/admin/users": ("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Uri"),
        "/admin": ("X-Forwarded-Prefix", "X-Script-Name", "Script-Name", "X-Forwarded-Path"),
        "00000000-0000-4000-8000-000000000001": ("X-Forwarded-User", "Remote-User", "X-User-ID"),
        "192.0.2.1": ("X-Client-IP", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP"),
        "TrustedService.Admin": ("X-Roles", "X-MS-CLIENT-PRINCIPAL-NAME", "X-MS-TOKEN-AAD-ACCESS-TOKEN"),
        # {"roles": ["TrustedService.Admin"]}
        # pragma: allowlist nextline secret (made up)
        "eyJyb2xlcyI6WyJUcnVzdGVkU2VydmljZS5BZG1pbiJdfQ==": ("X-MS-CLIENT-PRINCIPAL",),
        "00000000-0000-4000-8000-000000000002": ("X-MS-CLIENT-PRINCIPAL-ID", "X-MS-CLIENT-PRINCIPAL-IDP"),
    }.items()
    for name in names
}


def test_override_headers_are_ignored(application: Flask, shared_user: Person) -> None:
    parameters = {"_method": "DELETE", "X-HTTP-Method-Override": "DELETE", "roles": "TrustedService.Admin"}
    for route in list_routes(application):
        if not route.is_safe or route.path in ("/auth/sign-in", "/account", "/readyz"):
            continue  # their status alone says too little
        plain = shared_user.call(route.method, route.path)
        overridden = shared_user.call(route.method, route.path, params=parameters, headers=OVERRIDES)
        assert overridden.status_code == plain.status_code, route
        if route.path == "/api/me" and route.method == "GET":
            assert overridden.json() == plain.json()
    assert shared_user.me()["communicationUserId"]


def test_other_methods_have_no_effect(
    application: Flask, shared_user: Person, lines: tuple[str, str]
) -> None:
    for path in {route.path for route in list_routes(application)}:
        for method in ("TRACE", "CONNECT", "PROPFIND", "get", "XYZZY"):
            line = f"{method} {path} HTTP/1.1"
            raw = send_lines(shared_user.url, line, *lines, "X-Secret: echo-me")
            assert raw.status in (400, 405), path
            assert b"echo-me" not in raw.body
            assert raw.status == 400 or {"GET", "POST"} & set(raw.headers["Allow"].split(", "))
        response = shared_user.call("OPTIONS", path, headers=shared_user.csrf_headers())
        assert response.status_code in (200, 204, 401, 403), path
        assert response.content == b"" or response.status_code >= 400
    assert shared_user.is_signed_in()


def test_silent_long_body_ends_in_time(service: Service, lines: tuple[str, str]) -> None:
    head = "\r\n".join(["POST /api/token HTTP/1.1", "Host: x", *lines, JSON_TYPE])
    incomplete = [
        f"{head}\r\nContent-Length: 99999999999999999999999999\r\n\r\n{{}}",
        f"{head}\r\n{CHUNKED}\r\n\r\n2\r\n{{",
        f"{head}\r\n{CHUNKED}\r\n\r\n2\n{{}}\n0\n\n",
    ]

    def send_until_closed(request: str) -> bytes:
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(request.encode())
            return connection.makefile("rb").read()

    for response, seconds in run_concurrently(
        [partial(timed, partial(send_until_closed, request)) for request in incomplete]
    ):
        assert TIMEOUT_SECONDS - 1 < seconds < TIMEOUT_SECONDS + 5
        assert b" 200 " not in response
