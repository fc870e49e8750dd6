"""Malformed or malicious search parameters and cursors: a page or 400, and no other user's row."""

import re
from urllib.parse import unquote

import pytest

from tests.support.admin_client import Admin
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy
from tests.support.user_lists import find
from trusted_service.web.security.signing import cipher

UNKNOWN_ID = "f00d0000-0000-4000-8000-000000000001"

MALFORMED = [
    *("'", "''", "' or '1' eq '1", "' or PartitionKey ne '", "x' or Blocked eq true or Name eq 'x", '"', "`"),
    *("/", "\\", "#", "?", "%", "%27", "%2527", "a/b", "../..", "/etc/passwd", "*", "_", "--", ";", "(", ")"),
    *("\x00", "\x01\x02", "\x7f", "\u202e", "\ufeff", "\uffff", "\U0010ffff", "%ff", "\ufffd"),
    *("<script>alert(1)</script>", "${7*7}", "{{7*7}}", "null", "undefined", "true", "-0", "//", "x" * 2000),
    *("8:acs:", "8:acs:_", "8:acs:'_'", "8:acs:/_/", "8:acs:\x00", f"8:acs:{UNKNOWN_ID}_{UNKNOWN_ID}"),
    *(f"{UNKNOWN_ID}/{UNKNOWN_ID}", f"{UNKNOWN_ID}/../x"),
]
"""None of these is a prefix of a user's name."""

INVALID_IDENTITIES = [
    *(f"8:acs:\t{'0' * 31}_{'0' * 32}", f"8:acs:{'0' * 31}\n_{'0' * 32}", f"8:acs:{'0' * 32}_\x1f{'0' * 31}"),
    *(f"8:acs:{'0' * 15}_{'0' * 16}_{'0' * 32}", f"8:acs:{chr(0x663) * 32}_{'0' * 32}"),
    f"8:acs:{'0' * 32}_{'0' * 15}_{'0' * 16}",
]
"""Python's `UUID` accepts their parts as GUIDs."""

RAW_VALUES = [
    *("%", "%zz", "%ff%fe", "%c3%28", "%ed%a0%80", "%00", "%0d%0aSet-Cookie:x=y", "+", "%e2%80%ae"),
    *("&", "&q=x"),
]
"""Query values as sent in the request line."""

PATHS = ("/admin/users", "/api/admin/users")


@pytest.mark.parametrize("q", MALFORMED)
def test_malformed_search_finds_no_user(admin: Admin, shared_user: Person, q: str) -> None:
    assert find(admin, q=q) == []
    response = admin.person.get("/admin/users", params={"q": q})
    assert response.status_code == 200
    assert shared_user.account.object_id not in response.text
    assert "<script>alert" not in response.text


def test_search_reads_only_valid_table_keys(admin: Admin, storage_proxy: StorageProxy) -> None:
    for q in INVALID_IDENTITIES:
        assert admin.person.get("/api/admin/users", params={"q": q}).status_code == 200
    keys = [unquote(call.text) for call in storage_proxy.calls() if "='acs-" in unquote(call.text)]
    assert all(re.fullmatch(r"[!-~]+", key) for key in keys), "a table key has an invalid character"


@pytest.mark.parametrize("name", ["q", "status", "cursor"])
def test_malformed_query_is_never_an_internal_error(admin: Admin, name: str) -> None:
    for path in PATHS:
        for value in RAW_VALUES:
            response = admin.person.get(f"{path}?{name}={value}")
            assert response.status_code in (200, 400), value
            assert "Set-Cookie" not in response.headers
        for length in (5_000, 10_000):
            response = admin.person.get(path, params={name: "a" * length})
            assert response.status_code in (200, 400, 414, 431)
            if response.status_code == 200 and path.startswith("/api/"):
                assert response.json() == {"users": [], "next": None}


def test_unknown_status_is_400(admin: Admin) -> None:
    for status in ("Active", "BLOCKED", "all", "active'", "active,blocked", " active", "0", "\x00", "é"):
        response = admin.person.get("/api/admin/users", params={"status": status})
        assert_problem(response, 400, "invalid_request")
        assert_error_page(admin.person.get("/admin/users", params={"status": status}), 400)


def test_forged_cursor_is_400(admin: Admin) -> None:
    for cursor in (
        "098204525564434_x",
        '{"NextPartitionKey": "x"}',
        "AAAA",
        "gAAAAA==",
        "é.é.é",
        "..",
        "\x00",
    ):
        for path in ("/admin/users", "/admin/audit"):
            assert_error_page(admin.person.get(path, params={"cursor": cursor}), 400)
        response = admin.person.get("/api/admin/users", params={"cursor": cursor})
        assert_problem(response, 400, "invalid_request")


def test_cursor_from_older_version_is_400(admin: Admin, service: Service) -> None:
    key = cipher((service.env["SECRET_KEY"],), "cursor admin_api.users")
    for position in (b"098204525564434_x", b"{}", b"[1]", b"5"):
        cursor = key.encrypt(position).decode()
        response = admin.person.get("/api/admin/users", params={"cursor": cursor})
        assert "older version" in assert_problem(response, 400, "invalid_request")["detail"]
