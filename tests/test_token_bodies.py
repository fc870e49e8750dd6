"""POST /api/token with bodies that are not what the contract takes: refused plainly, whatever they hold."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.person import Person
from tests.support.problems import assert_problem

KIB = 1024
LARGEST = 16 * KIB
EXAMPLES = 60

MALFORMED = {
    "cut off": b'{"scopes": ["chat"',
    "white space": b"   ",
    "single quotes": b"{'scopes': ['chat']}",
    "trailing comma": b'{"scopes": ["chat"],}',
    "comment": b'{} // "scopes"',
    "two documents": b"{}{}",
    "bare word": b"scopes",
    "NUL": b"\0",
    "NaN": b'{"expiresInMinutes": NaN}',
    "Infinity": b'{"expiresInMinutes": Infinity}',
    "minus Infinity": b'{"expiresInMinutes": -Infinity}',
    "leading zero": b'{"expiresInMinutes": 060}',
    "plus": b'{"expiresInMinutes": +60}',
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"scopes": ["chat"]}'.encode("utf-16"),
    "UTF-16 without BOM": '{"scopes": ["chat"]}'.encode("utf-16-le"),
    "UTF-32": b"{}".decode().encode("utf-32"),
    "Latin-1": '{"scopes": ["é"]}'.encode("latin-1"),
    "overlong UTF-8": b'{"scopes": ["\xc0\xaf"]}',
    "surrogate in UTF-8": b'{"scopes": ["\xed\xa0\x80"]}',
    "control character": b'{"scopes": ["chat\n"]}',
    "deep array": b"[" * 8000,
    "deep closed array": b"[" * 8000 + b"]" * 8000,
    "deep object": b'{"scopes":' * 1600,
    "deep value": b'{"scopes": ' + b"[" * 8000 + b"]" * 8000 + b"}",
    "number of 16,000 digits": b'{"expiresInMinutes": ' + b"9" * 16_000 + b"}",
    "duplicate": b'{"scopes": ["chat"], "scopes": ["chat"]}',
    "duplicate, escaped": b'{"scopes": ["chat"], "scop\\u0065s": ["voip"]}',
    "duplicate within": b'{"scopes": [{"a": 1, "a": 2}]}',
}

WRONG_DOCUMENTS: list[Any] = [
    None, True, 0, 60, "", "chat", [], ["chat"], [{}],
    {"scope": ["chat"]}, {"Scopes": ["chat"]}, {"": 1}, {"scopes": ["chat"], "user": "somebody"},
    {"communicationUserId": "8:acs:1_2"}, {"expiresInMinutes": 60, "expiresOn": "2099-01-01T00:00:00Z"},
    {"__proto__": {}}, {"\ud800": 1},
    {"scopes": None}, {"scopes": []}, {"scopes": "chat"}, {"scopes": {"chat": True}}, {"scopes": True},
    {"scopes": ["chat", "chat"]}, {"scopes": ["chat", "voip", "chat"]}, {"scopes": ["chat", None]},
    {"scopes": [["chat"]]}, {"scopes": [{"chat": 1}]}, {"scopes": [1]}, {"scopes": ["\ud800"]},
    {"scopes": ["chat\u0000"]}, {"scopes": ["chat"] * 1000},
    {"expiresInMinutes": None}, {"expiresInMinutes": True}, {"expiresInMinutes": False},
    {"expiresInMinutes": 60.0}, {"expiresInMinutes": 60.5}, {"expiresInMinutes": "60"},
    {"expiresInMinutes": [60]}, {"expiresInMinutes": {}}, {"expiresInMinutes": 6e1},
    {"expiresInMinutes": 1e300}, {"expiresInMinutes": 10**4000}, {"expiresInMinutes": -(2**63)},
]  # fmt: skip


Send = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def send(regular: Person) -> Send:
    """POST bytes to /api/token as they are, said to be JSON."""
    csrf = regular.csrf_headers()

    def post(body: bytes | Iterator[bytes], content_type: str = "application/json") -> requests.Response:
        return regular.post("/api/token", data=body, headers=csrf | {"Content-Type": content_type})

    return post


@pytest.fixture(scope="module")
def own_identity(regular: Person) -> str:
    """The only identity that a token may be for."""
    return str(regular.me()["communicationUserId"])


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_body_is_refused(send: Send, body: bytes) -> None:
    assert_problem(send(body), 400, "invalid_request")


@pytest.mark.parametrize("document", WRONG_DOCUMENTS, ids=lambda document: json.dumps(document)[:40])
def test_wrong_document_is_refused(send: Send, document: object) -> None:
    assert_problem(send(json.dumps(document).encode()), 400, "invalid_request")


@given(body=st.binary(min_size=1, max_size=200))
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
def test_any_bytes_are_refused(send: Send, body: bytes) -> None:
    answer = send(body)
    if body.strip(b" \t\r\n") != b"{}":
        assert_problem(answer, 400, "invalid_request")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))
names = st.sampled_from(["scopes", "expiresInMinutes"]) | st.text(max_size=10)
scopes = st.lists(st.sampled_from(["chat", "voip", "chat.join", "CHAT", ""]), max_size=3)
minutes = st.integers(58, 62)


def is_good(document: dict[str, Any]) -> bool:
    """Whether the contract takes this document (with default settings), by its own words."""
    wanted, minutes = document.get("scopes", ["chat"]), document.get("expiresInMinutes", 60)
    return (
        not set(document) - {"scopes", "expiresInMinutes"}
        and isinstance(wanted, list)
        and wanted in (["chat"], ["voip"], ["chat", "voip"], ["voip", "chat"])
        and type(minutes) is int
        and minutes == 60
    )


@given(document=st.dictionaries(names, values | scopes | minutes, max_size=3))
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
def test_any_document_is_taken_if_good_and_refused_if_not(
    send: Send, own_identity: str, document: dict[str, Any]
) -> None:
    answer = send(json.dumps(document).encode())
    if is_good(document):
        assert answer.status_code == 200
        assert answer.json()["user"] == {"communicationUserId": own_identity}
        assert answer.json()["scopes"] == document.get("scopes", ["chat", "voip"])
    else:
        assert_problem(answer, 400, "invalid_request")


@pytest.mark.parametrize("body", [b"{}", b'{"scopes": ["chat"]}', b"scopes=chat", b"{"])
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json5",
        "text/json",
        "garbage",
        "",
    ],
)
def test_other_media_types_are_refused(send: Send, body: bytes, content_type: str) -> None:
    assert_problem(send(body, content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("chunked", [False, True], ids=["with Content-Length", "chunked"])
@pytest.mark.parametrize("count", [LARGEST, LARGEST + 1, LARGEST + KIB, 10 * LARGEST])
def test_body_over_16_kib_is_too_large(send: Send, count: int, chunked: bool) -> None:
    # What comes after the limit must not be ignored: cut there, this body would be good.
    body = b"{}" + b" " * (count - 2)
    answer = send((body[i : i + KIB] for i in range(0, count, KIB)) if chunked else body)
    if count <= LARGEST:
        assert answer.status_code == 200
    else:
        assert_problem(answer, 413, "too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_large_body_of_another_type_is_refused_too(send: Send, content_type: str) -> None:
    answer = send(b"x" * (LARGEST + 1), content_type)
    assert answer.status_code in (413, 415)
    assert_problem(answer, answer.status_code, answer.json()["code"])


def test_refusal_does_not_repeat_what_was_sent(send: Send) -> None:
    marked = "canary-5d1c"
    for document in ({marked: 1}, {"scopes": [marked]}, {"expiresInMinutes": marked}):
        assert marked not in send(json.dumps(document).encode()).text
