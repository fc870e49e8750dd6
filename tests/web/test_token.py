"""POST /api/token: the response, the options of a request, and the refusal of every other body."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service, request_lines

RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MAX_BYTES = 16 * 1024

MALFORMED = [
    # truncated, whitespace, other languages, more than one document
    b'{"scopes": ["chat"', b"   ", b"{'scopes': ['chat']}", b'{"scopes": ["chat"],}', b'{} // "scopes"',
    b"{}{}", b"scopes", b"\0",
    # numbers that JSON does not have
    b'{"expiresInMinutes": NaN}', b'{"expiresInMinutes": Infinity}', b'{"expiresInMinutes": -Infinity}',
    b'{"expiresInMinutes": 060}', b'{"expiresInMinutes": +60}',
    # other encodings than UTF-8, invalid UTF-8, a control character
    b"\xef\xbb\xbf{}", '{"scopes": ["chat"]}'.encode("utf-16"), '{"scopes": ["chat"]}'.encode("utf-16-le"),
    "{}".encode("utf-32"), '{"scopes": ["é"]}'.encode("latin-1"), b'{"scopes": ["\xc0\xaf"]}',
    b'{"scopes": ["\xed\xa0\x80"]}', b'{"scopes": ["chat\n"]}',
    # deep or long
    b"[" * 8000, b"[" * 8000 + b"]" * 8000, b'{"scopes":' * 1600,
    b'{"scopes": ' + b"[" * 8000 + b"]" * 8000 + b"}", b'{"expiresInMinutes": ' + b"9" * 16_000 + b"}",
    # duplicate members: plain, escaped, within
    b'{"scopes": ["chat"], "scopes": ["chat"]}', b'{"scopes": ["chat"], "scop\\u0065s": ["voip"]}',
    b'{"scopes": [{"a": 1, "a": 2}]}',
]  # fmt: skip
INVALID_DOCUMENTS: list[Any] = [
    None, True, 0, 60, "", "chat", [], ["chat"], [{}],
    {"scope": ["chat"]}, {"Scopes": ["chat"]}, {"": 1}, {"scopes": ["chat"], "user": "somebody"},
    {"communicationUserId": "8:acs:1_2"}, {"expiresInMinutes": 60, "expiresOn": "2099-01-01T00:00:00Z"},
    {"__proto__": {}}, {"\ud800": 1},
    {"scopes": None}, {"scopes": []}, {"scopes": "chat"}, {"scopes": {"chat": True}}, {"scopes": True},
    {"scopes": ["chat", "chat"]}, {"scopes": ["chat", "voip", "chat"]}, {"scopes": ["chat", None]},
    {"scopes": [["chat"]]}, {"scopes": [{"chat": 1}]}, {"scopes": [1]}, {"scopes": ["\ud800"]},
    {"scopes": ["chat\u0000"]}, {"scopes": ["chat"] * 1000},
    {"expiresInMinutes": None}, {"expiresInMinutes": True}, {"expiresInMinutes": False},
    {"expiresInMinutes": 60.5}, {"expiresInMinutes": "60"}, {"expiresInMinutes": [60]},
    {"expiresInMinutes": {}}, {"expiresInMinutes": 1e300}, {"expiresInMinutes": 10**4000},
    {"expiresInMinutes": -(2**63)},
]  # fmt: skip
VALID: list[dict[str, Any]] = [
    scopes | minutes
    for scopes in ({}, *({"scopes": names.split()} for names in ("chat", "voip", "chat voip", "voip chat")))
    for minutes in ({}, {"expiresInMinutes": 60})
]
"""Valid documents under the default settings."""

Send = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def generous_service(settings: dict[str, str]) -> Iterator[Service]:
    """A service that allows token lifetimes of up to two hours and one more scope."""
    generous = {"TOKEN_LIFETIME_MINUTES": "120", "TOKEN_SCOPES": "chat,voip,chat.join"}
    with Service(settings | generous) as running:
        yield running


@pytest.fixture
def guest(new_person: Callable[..., Person], generous_service: Service) -> Person:
    """A user signed in there, without an identity yet."""
    person = new_person(at=generous_service)
    assert person.sign_in().status_code == 302
    return person


def claims_of(token: str) -> dict[str, int]:
    """Return the unverified claims of a JWT."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


@pytest.mark.parametrize("number", ["60.0", "6e1", "0.6E+2", "60.000", "600e-1"])
def test_whole_number_may_be_written_as_fraction(shared_user: Person, number: str) -> None:
    headers = shared_user.csrf_headers() | {"Content-Type": "application/json"}
    body = f'{{"expiresInMinutes": {number}}}'
    assert shared_user.post("/api/token", headers=headers, data=body).status_code == 200


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"scope": ["chat"]}, "unknown member: scope."),
        ({"scopes": ["chat"], "expiresIn": 60}, "unknown member: expiresIn."),
        ({"expiresInMinutes": 90}, "expiresInMinutes may be at most 60."),
        ({"expiresInMinutes": 90.0}, "expiresInMinutes may be at most 60."),
        ({"expiresInMinutes": 59}, "expiresInMinutes must be at least 60."),
        ({"expiresInMinutes": 60.5}, "expiresInMinutes must be a whole number."),
    ],
)
def test_refusal_names_member_and_limit(shared_user: Person, body: dict[str, Any], sentence: str) -> None:
    assert sentence in assert_problem(shared_user.token(body), 400, "invalid_request")["detail"]


def test_token_response_matches_the_contract(azure: LocalAzure, shared_user: Person) -> None:
    csrf = shared_user.csrf_headers()
    before = time.time()
    response = shared_user.token(csrf=csrf)
    after = time.time()
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    document = response.json()
    assert list(document) == ["token", "expiresOn", "user", "scopes"]
    assert list(document["user"]) == ["communicationUserId"]
    identity, scopes = document["user"]["communicationUserId"], ["chat", "voip"]
    assert document["scopes"] == scopes
    checked = azure.check_token(document["token"])
    assert checked == {"valid": True, "reason": None, "identity": identity, "scopes": scopes}
    assert RFC3339.fullmatch(document["expiresOn"])
    expires_at = datetime.fromisoformat(document["expiresOn"]).timestamp()
    # Communication Services reports ticks, the JWT and our response whole seconds.
    assert abs(expires_at - claims_of(document["token"])["exp"]) < 1
    assert before + 3600 - 1 <= expires_at <= after + 3600


def test_token_request_is_logged_without_the_token(service: Service, shared_user: Person) -> None:
    response = shared_user.token()
    lines = [json.loads(line) for line in request_lines(service.log(), response.headers["X-Request-ID"])]
    assert [line["event"] for line in lines] == ["authn_token_created", "request"]
    assert lines[0]["user"] == shared_user.key
    expected = {"route": "/api/token", "status": 200, "user": shared_user.key, "code": None}
    assert lines[1] | expected == lines[1]
    assert response.json()["token"] not in service.log()


@pytest.mark.parametrize(
    ("content_type", "body", "scopes"),
    [
        *((content_type, b"", "chat voip") for content_type in (None, JSON, "text/plain", FORM)),
        *((JSON, body, "chat voip") for body in (b"{}", b" {} \r\n\t")),
        *((JSON, b'{"expiresInMinutes": %s}' % n, "chat voip") for n in (b"60", b"60.0", b"6e1", b"600E-1")),
        (JSON, b'{"scopes":["chat","voip"],"expiresInMinutes":60}', "chat voip"),
        ("application/json; charset=utf-8", b'{"scopes": ["voip"]}', "voip"),
        ("Application/JSON", b'{"scopes": ["voip"]}', "voip"),
    ],
)
def test_equivalent_requests_are_accepted(
    shared_user: Person, content_type: str | None, body: bytes, scopes: str
) -> None:
    headers = shared_user.csrf_headers() | ({} if content_type is None else {"Content-Type": content_type})
    response = shared_user.post("/api/token", data=body, headers=headers)
    assert response.status_code == 200
    assert response.json()["scopes"] == scopes.split()


@pytest.mark.parametrize("scopes", ["chat", "voip", "chat.join", "voip chat", "chat.join voip chat"])
def test_token_has_the_requested_scopes(azure: LocalAzure, guest: Person, scopes: str) -> None:
    for _ in range(2):  # the first token, and a later one
        response = guest.token({"scopes": scopes.split(), "expiresInMinutes": 60})
        assert response.status_code == 200
        assert response.json()["scopes"] == scopes.split()
        token = response.json()["token"]
        granted = azure.check_token(token)["scopes"]
        assert isinstance(granted, list)
        assert sorted(granted) == sorted(scopes.split())
        assert claims_of(token)["exp"] - claims_of(token)["iat"] == pytest.approx(3600, abs=1)


def test_token_has_the_requested_lifetime(guest: Person) -> None:
    for minutes, lifetime in ((None, 120), (60, 60), (61, 61), (119, 119), (120, 120)):
        response = guest.token({} if minutes is None else {"expiresInMinutes": minutes})
        assert response.status_code == 200
        claims = claims_of(response.json()["token"])
        assert claims["exp"] - claims["iat"] == pytest.approx(lifetime * 60, abs=1)


def test_refused_first_token_creates_no_identity(azure: LocalAzure, guest: Person) -> None:
    lifetimes = [121, 1440, 1441, 59, 1, 0, -60, 2**31, 2**63, 10**400]
    scopes = [[], ["voip.join"], ["chat", "voip.join"], ["CHAT"], ["chat "], ["chat,voip"], [""]]
    azure.reset_calls()
    csrf = guest.csrf_headers()
    for body in (*({"expiresInMinutes": one} for one in lifetimes), *({"scopes": one} for one in scopes)):
        assert_problem(guest.token(body, csrf=csrf), 400, "invalid_request")
    assert azure.count_calls("acs") == {}
    assert guest.me()["communicationUserId"] is None


@pytest.fixture(scope="module")
def send(shared_user: Person) -> Send:
    """Posts raw bytes to /api/token, by default as JSON."""
    csrf = shared_user.csrf_headers()

    def post(body: bytes, content_type: str = "application/json") -> requests.Response:
        return shared_user.post("/api/token", data=body, headers=csrf | {"Content-Type": content_type})

    return post


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: ascii(body[:30]))
def test_malformed_body_is_refused(send: Send, body: bytes) -> None:
    assert_problem(send(body), 400, "invalid_request")


@pytest.mark.parametrize("document", INVALID_DOCUMENTS, ids=lambda document: json.dumps(document)[:40])
def test_invalid_document_is_refused(send: Send, document: object) -> None:
    assert_problem(send(json.dumps(document).encode()), 400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"scope": 1}', "The body has an unknown member: scope. It may have scopes, expiresInMinutes."),
        (b'{"expiresInMinutes": 90}', "expiresInMinutes may be at most 60."),
        (b'{"expiresInMinutes": 59}', "expiresInMinutes must be at least 60."),
        (b'{"expiresInMinutes": "60"}', "expiresInMinutes must be a whole number."),
        (b'{"scopes": []}', "scopes must not be empty."),
        (b'{"scopes": "chat"}', "scopes must be a list."),
        (b'{"scopes": ["chat", "chat"]}', "scopes may hold each value only once."),
        (b'{"scopes": ["voip.join"]}', "scopes may only hold 'chat' or 'voip'."),
        (b"[]", "The body must be a JSON object."),
    ],
)
def test_refusal_names_the_member_and_the_rule(send: Send, body: bytes, sentence: str) -> None:
    assert send(body).json()["detail"] == sentence


@given(body=st.binary(min_size=1, max_size=200))
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_any_bytes_are_refused(send: Send, body: bytes) -> None:
    response = send(body)
    if body.strip(b" \t\r\n") != b"{}":
        assert_problem(response, 400, "invalid_request")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))
names = st.sampled_from(["scopes", "expiresInMinutes"]) | st.text(max_size=10)
scopes = st.lists(st.sampled_from(["chat", "voip", "chat.join", "CHAT", ""]), max_size=3)


@given(document=st.dictionaries(names, values | scopes | st.integers(58, 62), max_size=3))
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_only_valid_documents_are_accepted(send: Send, shared_user: Person, document: dict[str, Any]) -> None:
    response = send(json.dumps(document).encode())
    if document in VALID:
        assert response.status_code == 200
        assert response.json()["user"]["communicationUserId"] == shared_user.me()["communicationUserId"]
        assert response.json()["scopes"] == document.get("scopes", ["chat", "voip"])
    else:
        assert_problem(response, 400, "invalid_request")


@pytest.mark.parametrize("body", [b"{}", b'{"scopes": ["chat"]}', b"scopes=chat", b"{"])
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/xml", "application/json5", "text/json", "garbage", "",
    ],
)  # fmt: skip
def test_other_media_types_are_refused(send: Send, body: bytes, content_type: str) -> None:
    assert_problem(send(body, content_type), 415, "unsupported_media_type")
    large = send(b"x" * (MAX_BYTES + 1), content_type)
    assert (large.status_code, large.json()["code"]) in ((413, "too_large"), (415, "unsupported_media_type"))


@pytest.mark.parametrize("count", [MAX_BYTES, MAX_BYTES + 1, MAX_BYTES + 1024, 10 * MAX_BYTES])
def test_body_over_16_kib_is_too_large(send: Send, count: int) -> None:
    # Truncated at the limit, this body would be valid; the rest must not be ignored.
    response = send(b"{}" + b" " * (count - 2))
    if count <= MAX_BYTES:
        assert response.status_code == 200
    else:
        assert_problem(response, 413, "too_large")


def test_refusal_does_not_echo_input(send: Send) -> None:
    canary = "canary-5d1c"
    for document in ({canary: 1}, {"scopes": [canary]}, {"expiresInMinutes": canary}):
        assert canary not in send(json.dumps(document).encode()).text
