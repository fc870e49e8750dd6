"""Cursors and the sign-in cookie: nobody can read them, and only this service can have made them."""

import base64
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

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

FERNET_VERSION = 0x80
"""https://github.com/fernet/spec"""
LISTS = ("/admin/users", "/api/admin/users", "/admin/audit", "/admin/jobs")


def test_cursors_and_sign_in_cookie_are_encrypted(admin: Admin, azure: LocalAzure, person: Person) -> None:
    seed_users(azure.env, 60, name="Zebedee Quill")
    plant_events(azure.env, 60, timedelta(0))
    person.start_sign_in("/admin/users?q=Zebedee")
    values = list(flow_cookies(person).values())
    values.append(admin.person.get("/api/admin/users", params={"q": "zebedee"}).json()["next"])
    for path in ("/admin/users?q=zebedee&status=active&sort=name", "/admin/users", "/admin/audit"):
        link = str(read_page(admin.person, path).select("a[rel~=next]")[0]["href"])
        values += parse_qs(urlsplit(link).query)["cursor"]
    assert len(values) == 5
    for value in values:
        assert "=" not in value, "a host may escape it in cookies"
        assert base64.urlsafe_b64decode(value + "==")[0] == FERNET_VERSION


@pytest.fixture(scope="module")
def new_application(azure: LocalAzure) -> Callable[..., Flask]:
    def make(**settings: str) -> Flask:
        with azure.in_environment():
            return create_app(Settings.from_env(azure.env | OWN_SETTINGS | settings))

    return make


def test_cursor_needs_its_list_and_key(new_application: Callable[..., Flask]) -> None:
    old, new = "an old key that nobody can guess by now", "a new key that nobody can guess by now"

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
