"""Cursors and the sign-in cookie: nobody can read them, and only this service can have made them."""

import base64
import re
import zlib
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import unquote

import pytest
from flask import Flask

from tests.support.admin_client import Admin
from tests.support.flows import flow_cookies
from tests.support.local_azure import LocalAzure
from tests.support.pages import read_page
from tests.support.person import Person
from tests.support.seed import plant_events, seed_users
from tests.support.settings import OWN_SETTINGS
from trusted_service.app import create_app
from trusted_service.errors import InvalidRequest
from trusted_service.settings import Settings
from trusted_service.web.http.lists import read_cursor, sign_cursor

LISTS = ("/admin/users", "/api/admin/users", "/admin/audit", "/admin/jobs")


def readable(value: str) -> str:
    """Return what anybody can read of a value: its parts, decoded from base64 and unpacked."""
    texts = [value]
    for part in re.findall(r"[A-Za-z0-9_-]{4,}", unquote(value)):
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) if len(part) % 4 != 1 else b""
        texts.append(data.decode(errors="replace"))
        for head in (data, data[1:]):
            try:
                texts.append(zlib.decompress(head).decode(errors="replace"))
            except zlib.error:
                continue
    return "\n".join(texts).lower()


def test_cursors_of_users_reveal_no_names(admin: Admin, azure: LocalAzure) -> None:
    users = seed_users(azure.env, 60, name="Zebedee Quill")
    ids = [user.user_id.object_id for user in users]
    for query in ({"q": "zebedee"}, {"q": "zebedee", "status": "active"}, {}):
        page = read_page(admin.person, "/admin/users", **query, sort="name")
        cursors = [str(page.select("a[rel~=next]")[0]["href"])]
        cursors.append(admin.person.get("/api/admin/users", params=query).json()["next"])
        for cursor in cursors:
            text = readable(cursor.partition("cursor=")[2] or cursor)
            assert "tenant" not in text
            assert "zebedee" not in text.replace("q=zebedee", "")
            assert not [one for one in ids if one in text]


def test_cursor_of_audit_trail_reveals_nothing(admin: Admin, azure: LocalAzure) -> None:
    plant_events(azure.env, 60, timedelta(0))
    page = read_page(admin.person, "/admin/audit")
    cursor = str(page.select("a[rel~=next]")[0]["href"]).partition("cursor=")[2]
    assert not re.search("[0-9]{17}", readable(cursor))


def test_sign_in_cookie_reveals_nothing(person: Person) -> None:
    person.start_sign_in("/admin/users?q=Zebedee")
    (cookie,) = flow_cookies(person).values()
    for secret in ("zebedee", "/admin", "code_verifier", "nonce", "state"):
        assert secret not in readable(cookie)


@pytest.fixture(scope="module")
def new_application(azure: LocalAzure) -> Callable[..., Flask]:
    def make(**settings: str) -> Flask:
        with azure.in_environment():
            return create_app(Settings.from_env(azure.env | OWN_SETTINGS | settings))

    return make


def test_cursor_needs_its_list_and_key(new_application: Callable[..., Flask]) -> None:
    old, new = "o" * 40, "n" * 40

    def write(path: str, **settings: str) -> str:
        with new_application(**settings).test_request_context(path):
            return sign_cursor("a place") or ""

    def read(path: str, cursor: str, **settings: str) -> str:
        with new_application(**settings).test_request_context(path, query_string={"cursor": cursor}):
            return read_cursor()

    for path in LISTS:
        cursor = write(path, SECRET_KEY=old)
        assert write(path, SECRET_KEY=old) != cursor, "equal places are not recognisable"
        assert read(path, cursor, SECRET_KEY=old) == "a place"
        assert read(path, cursor, SECRET_KEY=new, SECRET_KEY_FALLBACKS=old) == "a place"
        refused = [(path, cursor, new), (path, cursor.swapcase(), old)]
        refused += [(path, given, old) for given in (cursor[:-2], f"{cursor}A", f"{cursor}AAAA", "é", "=")]
        refused += [(other, cursor, old) for other in LISTS if other != path]
        for there, given, key in refused:
            with pytest.raises(InvalidRequest):
                read(there, given, SECRET_KEY=key)
