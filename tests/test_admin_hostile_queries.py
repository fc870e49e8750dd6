"""Searches, states and cursors that nobody types: a plain answer, and never other people's rows."""

import hashlib
import json
import re
from urllib.parse import unquote

import pytest
from itsdangerous import URLSafeTimedSerializer

from tests.support.desk import Desk
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy
from tests.support.user_lists import find

NOBODY = "f00d0000-0000-4000-8000-000000000001"

ODD = [
    *("'", "''", "' or '1' eq '1", "' or PartitionKey ne '", "x' or Blocked eq true or Name eq 'x", '"', "`"),
    *("/", "\\", "#", "?", "%", "%27", "%2527", "a/b", "../..", "/etc/passwd", "*", "_", "--", ";", "(", ")"),
    *("\x00", "\x01\x02", "\x7f", "\u202e", "\ufeff", "\uffff", "\U0010ffff", "%ff", "\ufffd"),
    *("<script>alert(1)</script>", "${7*7}", "{{7*7}}", "null", "undefined", "true", "-0", "//", "x" * 2000),
    *("8:acs:", "8:acs:_", "8:acs:'_'", "8:acs:/_/", "8:acs:\x00", f"8:acs:{NOBODY}_{NOBODY}"),
    *(f"{NOBODY}/{NOBODY}", f"{NOBODY}/../x"),
]
"""None of these is the beginning of anybody's name here."""

ALMOST_IDENTITIES = [
    *(f"8:acs:\t{'0' * 31}_{'0' * 32}", f"8:acs:{'0' * 31}\n_{'0' * 32}", f"8:acs:{'0' * 32}_\x1f{'0' * 31}"),
    *(f"8:acs:{'0' * 15}_{'0' * 16}_{'0' * 32}", f"8:acs:{chr(0x663) * 32}_{'0' * 32}"),
    f"8:acs:{'0' * 32}_{'0' * 15}_{'0' * 16}",
]
"""Python takes their parts for GUIDs."""

RAW = [
    "%",
    "%zz",
    "%ff%fe",
    "%c3%28",
    "%ed%a0%80",
    "%00",
    "%0d%0aSet-Cookie:x=y",
    "+",
    "%e2%80%ae",
    "&",
    "&q=x",
]
"""As they stand in the request line."""


def raw(desk: Desk, path: str, query: str) -> int:
    """The status of a request with exactly this query."""
    answer = desk.person.http.get(f"{desk.person.url}{path}?{query}", allow_redirects=False, timeout=30)
    assert "Set-Cookie" not in answer.headers
    return answer.status_code


@pytest.mark.parametrize("q", ODD)
def test_odd_search_finds_nobody(desk: Desk, regular: Person, q: str) -> None:
    assert find(desk, q=q) == []
    answer = desk.person.get("/admin/users", params={"q": q})
    assert answer.status_code == 200
    assert regular.account.object_id not in answer.text
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize("q", ALMOST_IDENTITIES)
def test_search_by_identity_reads_only_keys_that_azure_takes(
    desk: Desk, storage_proxy: StorageProxy, q: str
) -> None:
    assert desk.person.get("/api/admin/users", params={"q": q}).status_code == 200
    keys = [unquote(call.text) for call in storage_proxy.calls() if "='acs-" in unquote(call.text)]
    assert all(re.fullmatch(r"[!-~]+", key) for key in keys), "a table key of Azure holds none of these"


@pytest.mark.parametrize("name", ["q", "status", "cursor"])
@pytest.mark.parametrize("value", RAW)
def test_odd_bytes_are_no_failure_of_ours(desk: Desk, name: str, value: str) -> None:
    for path in ("/admin/users", "/api/admin/users"):
        assert raw(desk, path, f"{name}={value}") in (200, 400)


@pytest.mark.parametrize("name", ["q", "status", "cursor"])
def test_ten_thousand_characters_are_no_failure_of_ours(desk: Desk, name: str) -> None:
    for length in (5_000, 10_000):
        for path in ("/admin/users", "/api/admin/users"):
            answer = desk.person.get(path, params={name: "a" * length})
            assert answer.status_code in (200, 400, 414, 431)
            if answer.status_code == 200 and path.startswith("/api/"):
                assert answer.json() == {"users": [], "next": None}


@pytest.mark.parametrize(
    "status",
    ["Active", "BLOCKED", "all", "deleted", "active'", "active,blocked", " active", "0", "\x00", "é"],
)
def test_unknown_status_is_400(desk: Desk, status: str) -> None:
    answer = desk.person.get("/api/admin/users", params={"status": status})
    assert_problem(answer, 400, "invalid_request")
    assert_error_page(desk.person.get("/admin/users", params={"status": status}), 400)


def test_empty_parameters_are_none(desk: Desk, regular: Person) -> None:
    assert desk.person.get("/api/admin/users?q=&status=&cursor=").json()["users"]


def forged_cursors(service: Service) -> dict[str, str]:
    def sign(key: str, salt: str, value: object) -> str:
        return str(URLSafeTimedSerializer(key, salt=salt).dumps(value))

    key = service.env["SECRET_KEY"]
    return {
        "plain text": "newest-active",
        "a row key": "098204525564434_x",
        "JSON": json.dumps({"NextPartitionKey": "x"}),
        "another key": sign("another-key-another-key-another-key", "cursor", "0"),
        "another purpose": sign(key, "session", "0"),
        "dots": "a.b.c",
        "non-ASCII": "é.é.é",
        "base64": "AAAA",
        "empty parts": "..",
        "control": "\x00",
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("plain text", "a row key", "JSON", "another key", "another purpose", "dots", "non-ASCII", "base64"),
        *("empty parts", "control"),
    ],
)
@pytest.mark.parametrize("path", ["/admin/users", "/admin/audit"])
def test_forged_cursor_is_400(desk: Desk, service: Service, path: str, kind: str) -> None:
    cursor = forged_cursors(service)[kind]
    assert_error_page(desk.person.get(path, params={"cursor": cursor}), 400)
    if path == "/admin/users":
        assert_problem(desk.person.get(f"/api{path}", params={"cursor": cursor}), 400, "invalid_request")


@pytest.mark.parametrize("place", ["098204525564434_x", "{}", "[1]", "5"])
def test_cursor_of_an_older_version_is_400(desk: Desk, service: Service, place: str) -> None:
    serializer = URLSafeTimedSerializer(
        service.env["SECRET_KEY"],
        salt="cursor admin_api.users",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
    answer = desk.person.get("/api/admin/users", params={"cursor": str(serializer.dumps(place))})
    assert_problem(answer, 400, "invalid_request")
    assert "older version" in answer.json()["detail"]
