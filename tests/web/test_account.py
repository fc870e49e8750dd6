"""Account page and API: users view and end their sessions, and export and erase their data."""

import json

import pytest
from azure.data.tables import TableServiceClient
from bs4 import Tag

from tests.support.admin_client import assert_signed_out, bearer, call, get_me
from tests.support.cookies import SESSION, read_cookies
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page, message_on, read_page
from tests.support.person import Person
from tests.support.rows import (
    get_identity,
    list_identity_rows,
    list_rows,
    list_sessions,
    wait_until_forgotten,
)
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy

USER_AGENT = "Mozilla/5.0 (Test; rv:1.0)"


@pytest.fixture
def second(mapped_user: Person) -> Person:
    """The same user, signed in with a second browser."""
    browser = Person(mapped_user.azure, mapped_user.url, mapped_user.account)
    browser.http.headers["User-Agent"] = USER_AGENT
    return browser.signed_in()


def list_session_rows(person: Person) -> list[Tag]:
    """Return the table rows of the account page."""
    return list(read_page(person, "/account").select("tbody tr"))


def test_page_lists_sessions_and_marks_own(mapped_user: Person, second: Person, shared_user: Person) -> None:
    here, other = sorted(list_session_rows(mapped_user), key=lambda row: "This browser" not in row.get_text())
    assert "This browser" in here.get_text()
    for text in (USER_AGENT, "127.0.0.1"):
        assert text in other.get_text()
    assert "This browser" not in other.get_text()
    assert other.find("button", attrs={"name": "session"}) is not None
    assert shared_user.account.username not in mapped_user.get("/account").text


def test_one_session_ends_then_all_others(
    storage_proxy: StorageProxy, mapped_user: Person, second: Person, other_service: Service
) -> None:
    third = mapped_user.in_new_browser()
    (row,) = [row for row in list_session_rows(mapped_user) if USER_AGENT in row.get_text()]
    button = row.find("button", attrs={"name": "session"})
    assert isinstance(button, Tag)
    response = mapped_user.submit("/account/end-session", session=str(button["value"]))
    assert response.status_code == 303
    assert message_on(read_page(mapped_user, response.headers["Location"]))
    assert_signed_out(second, other_service.url)
    assert third.is_signed_in()
    fourth = mapped_user.in_new_browser()
    response = mapped_user.submit("/account/end-session")
    assert response.status_code == 303
    assert len(storage_proxy.calls_for(response)) <= 7, "however many sessions there are"
    for browser in (third, fourth):
        assert_signed_out(browser, other_service.url)
    assert len(list_session_rows(mapped_user)) == 1


def test_foreign_or_malformed_sessions_are_kept(
    tables: TableServiceClient, mapped_user: Person, shared_user: Person
) -> None:
    (row,) = list_sessions(tables, shared_user)
    foreign = (str(row["RowKey"]), f"{row['PartitionKey']}/{row['RowKey']}")
    for session in (*foreign, "x", "a/b", "\x00", "'", "x" * 3000, "é", "\n", "../x"):
        response = mapped_user.submit("/account/end-session", session=session)
        assert response.status_code in (303, 400, 404), session
    assert mapped_user.is_signed_in()
    assert shared_user.is_signed_in()
    events = list_rows(tables, "audit", "TargetObjectId", mapped_user.account.object_id)
    ends = {(row["Outcome"], row["Detail"]) for row in events if row["Action"] == "end-session"}
    assert ends == {("started", ""), ("failed", "no such session")}


@pytest.mark.parametrize("channel", ["page", "api", "bearer"])
def test_revoke_ends_tokens_but_not_session(azure: LocalAzure, mapped_user: Person, channel: str) -> None:
    token = mapped_user.get_token()
    if channel == "page":
        response = mapped_user.submit("/account/revoke")
        assert response.status_code == 303
        assert message_on(read_page(mapped_user, response.headers["Location"]))
    elif channel == "api":
        response = mapped_user.post("/api/me/revoke", headers=mapped_user.csrf_headers())
    else:
        response = call("POST", f"{mapped_user.url}/api/me/revoke", headers=bearer(azure, mapped_user))
    assert channel == "page" or (response.status_code, response.content) == (204, b"")
    assert azure.check_token(token)["valid"] is False
    assert azure.check_token(mapped_user.get_token())["valid"] is True


def test_export_is_complete_without_secrets(
    tables: TableServiceClient, mapped_user: Person, second: Person, shared_user: Person
) -> None:
    cookie = mapped_user.http.cookies[SESSION]
    others = {"user": shared_user.key, "objectId": shared_user.account.object_id}  # ignored
    response = mapped_user.get("/api/me/export", params=others)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    document = response.json()
    assert document["user"]["objectId"] == mapped_user.account.object_id
    text = json.dumps(document, ensure_ascii=False)
    (row,) = list_identity_rows(tables, mapped_user)
    assert all(row[column] in text for column in ("AcsUserId", "Name", "Username"))
    for session in list_sessions(tables, mapped_user):
        assert all(session[column] in text for column in ("LoginHint", "Address", "UserAgent"))
        assert session["RowKey"] not in text
        assert session["PartitionKey"] not in text
    for secret in (cookie, cookie.split(".")[0], "eyJ", shared_user.account.object_id):
        assert secret not in text


def test_user_without_identity_can_export_and_erase(tables: TableServiceClient, signed_in: Person) -> None:
    assert signed_in.post("/api/me/revoke", headers=signed_in.csrf_headers()).status_code == 204
    assert signed_in.submit("/account/revoke").status_code == 303
    document = signed_in.get("/api/me/export").json()
    assert document["user"]["communicationUserId"] is None
    assert document["user"]["objectId"] == signed_in.account.object_id
    assert len(document["sessions"]) == 1
    assert signed_in.erase().status_code == 204
    assert list_sessions(tables, signed_in) == []


@pytest.mark.parametrize("channel", ["page", "api"])
def test_erasure_leaves_nothing_and_signs_out(
    azure: LocalAzure, tables: TableServiceClient, mapped_user: Person, other_service: Service, channel: str
) -> None:
    second, old = mapped_user.in_new_browser(), mapped_user.at(other_service.url)
    token, identity = mapped_user.get_token(), get_identity(tables, mapped_user)
    if channel == "page":
        assert "cannot be undone" in read_page(mapped_user, "/account/delete").get_text()
        response = mapped_user.submit("/account/delete")
        assert (response.status_code, response.headers["Location"]) == (303, "/")
    else:
        response = mapped_user.erase()
        assert (response.status_code, response.content) == (204, b"")
    cookie = read_cookies(response)[SESSION]
    assert (cookie.value, cookie.attributes["max-age"]) == ("", "0")
    assert SESSION not in mapped_user.http.cookies
    for browser in (old, second):
        assert_signed_out(browser, other_service.url, mapped_user.url)
    assert list_identity_rows(tables, mapped_user) == list_sessions(tables, mapped_user) == []
    wait_until_forgotten(tables, mapped_user.account.object_id)
    assert identity not in azure.list_identities()
    assert azure.check_token(token)["valid"] is False
    assert mapped_user.signed_in().me()["communicationUserId"] is None


def test_erasure_by_bearer_is_idempotent(
    azure: LocalAzure, tables: TableServiceClient, mapped_user: Person, other_service: Service
) -> None:
    headers = bearer(azure, mapped_user)
    for url in (mapped_user.url, other_service.url):
        response = call("DELETE", f"{url}/api/me", headers=headers)
        assert (response.status_code, response.content) == (204, b"")
        assert "Set-Cookie" not in response.headers
    assert list_identity_rows(tables, mapped_user) == list_sessions(tables, mapped_user) == []
    assert get_me(mapped_user, headers).json()["communicationUserId"] is None


def test_account_is_503_during_storage_outage(mapped_user: Person, storage_proxy: StorageProxy) -> None:
    storage_proxy.plant(Fault(kind="status", method="GET", table="identities"))
    assert_error_page(mapped_user.get("/account"), 503)
