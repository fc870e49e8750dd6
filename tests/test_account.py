"""What people see, end, take along and erase of their own."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup, Tag

from tests.support.cookies import read_cookies
from tests.support.desk import assert_signed_out, bearer, call
from tests.support.identity_rows import get_identity, list_identity_rows
from tests.support.index_rows import wait_until_forgotten
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_rows, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import wait_until

USER_AGENT = "Mozilla/5.0 (Test; rv:1.0)"


def read_page(person: Person, path: str = "/account") -> BeautifulSoup:
    answer = person.get(path)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return BeautifulSoup(answer.text, "html.parser")


def submit(person: Person, path: str, **fields: str) -> Any:
    return person.post(path, data={"csrf_token": person.me()["csrfToken"]} | fields)


def send_delete(person: Person, url: str = "", headers: dict[str, str] | None = None) -> Any:
    headers = person.csrf_headers() if headers is None else headers
    return person.http.delete(f"{url or person.url}/api/me", headers=headers, timeout=30)


@pytest.fixture
def second(azure: LocalAzure, settled: Person) -> Person:
    """Another browser of the same person."""
    browser = Person(azure, settled.url, settled.account)
    browser.http.headers["User-Agent"] = USER_AGENT
    assert browser.sign_in().status_code == 302
    return browser


@pytest.fixture
def third(azure: LocalAzure, settled: Person) -> Person:
    browser = Person(azure, settled.url, settled.account)
    assert browser.sign_in().status_code == 302
    return browser


def test_page_lists_own_sessions_and_marks_this_one(settled: Person, second: Person, regular: Person) -> None:
    page = read_page(settled)
    rows = page.select("tbody tr")
    assert len(rows) == 2
    assert [("This browser" in row.get_text()) for row in rows].count(True) == 1
    (other,) = [row for row in rows if "This browser" not in row.get_text()]
    assert USER_AGENT in other.get_text()
    assert "127.0.0.1" in other.get_text()
    assert other.find("button", attrs={"name": "session"}) is not None
    assert regular.account.username not in page.get_text()


def test_one_other_session_is_ended(
    settled: Person, second: Person, third: Person, other_service: Service
) -> None:
    row = next(row for row in read_page(settled).select("tbody tr") if USER_AGENT in row.get_text())
    button = row.find("button", attrs={"name": "session"})
    assert isinstance(button, Tag)
    answer = submit(settled, "/account/end-session", session=str(button["value"]))
    assert answer.status_code == 303
    assert read_page(settled, answer.headers["Location"]).select_one("[role=status]") is not None
    assert_signed_out(second, other_service.url)
    for browser in (settled, third):
        assert browser.get("/api/me").status_code == 200


def test_all_others_are_ended(settled: Person, second: Person, third: Person, other_service: Service) -> None:
    assert submit(settled, "/account/end-session").status_code == 303
    for browser in (second, third):
        assert_signed_out(browser, other_service.url)
    assert settled.get("/api/me").status_code == 200
    assert len(read_page(settled).select("tbody tr")) == 1


@pytest.mark.parametrize("session", ["x", "a/b", "\x00", "'", "x" * 3000, "é"])
def test_odd_session_to_end_ends_none(settled: Person, second: Person, session: str) -> None:
    assert submit(settled, "/account/end-session", session=session).status_code in (303, 400, 404)
    for browser in (settled, second):
        assert browser.get("/api/me").status_code == 200


def test_session_of_somebody_else_is_not_ended(
    tables: TableServiceClient, settled: Person, regular: Person
) -> None:
    for row in list_sessions(tables, regular):
        submit(settled, "/account/end-session", session=str(row["RowKey"]))
        submit(settled, "/account/end-session", session=f"{row['PartitionKey']}/{row['RowKey']}")
    assert regular.get("/api/me").status_code == 200


@pytest.mark.parametrize("way", ["page", "api", "bearer"])
def test_revoke_ends_tokens_and_not_the_session(azure: LocalAzure, settled: Person, way: str) -> None:
    token = settled.token().json()["token"]
    if way == "page":
        answer = submit(settled, "/account/revoke")
        assert answer.status_code == 303
        assert read_page(settled, answer.headers["Location"]).select_one("[role=status]") is not None
    else:
        headers = settled.csrf_headers() if way == "api" else bearer(azure, settled)
        answer = (settled.post if way == "api" else Person(azure, settled.url, settled.account).post)(
            "/api/me/revoke", headers=headers
        )
        assert (answer.status_code, answer.content) == (204, b"")
    assert azure.check_token(token)["valid"] is False
    again = settled.token()
    assert azure.check_token(again.json()["token"])["valid"] is True


def test_revoke_before_the_first_token_does_nothing(signed_in: Person) -> None:
    assert signed_in.post("/api/me/revoke", headers=signed_in.csrf_headers()).status_code == 204
    assert submit(signed_in, "/account/revoke").status_code == 303


def test_export_is_everything_and_no_secret(
    tables: TableServiceClient, settled: Person, second: Person
) -> None:
    cookie = settled.http.cookies["session"]
    settled.post("/api/me/revoke", headers=settled.csrf_headers())
    answer = settled.get("/api/me/export")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json()
    assert document["user"]["objectId"] == settled.account.object_id
    assert document["user"]["communicationUserId"] == get_identity(tables, settled)
    assert len(document["sessions"]) == 2
    assert USER_AGENT in {session["userAgent"] for session in document["sessions"]}
    assert {"revoke", "identity-created"} <= {event["action"] for event in document["audit"]}
    text = json.dumps(document)
    for row in list_sessions(tables, settled):
        assert row["RowKey"] not in text
        assert row["PartitionKey"] not in text
    for secret in (cookie, cookie.split(".")[0], "eyJ"):
        assert secret not in text


def test_export_holds_all_that_the_tables_hold(tables: TableServiceClient, settled: Person) -> None:
    """Every value of the person's rows that is about them, in whatever member."""
    wait_until(lambda: len(list_rows(tables, "audit", "TargetObjectId", settled.account.object_id)) == 2)
    text = settled.get("/api/me/export").text
    (row,) = list_identity_rows(tables, settled)
    for column in ("AcsUserId", "Name", "Username"):
        assert row[column] in text
    (session,) = list_sessions(tables, settled)
    for column in ("Address", "UserAgent"):
        assert session[column] in text, column


def test_export_before_the_first_token(signed_in: Person) -> None:
    document = signed_in.get("/api/me/export").json()
    assert document["user"]["communicationUserId"] is None
    assert document["user"]["objectId"] == signed_in.account.object_id
    assert len(document["sessions"]) == 1


def test_export_is_of_the_caller_alone(settled: Person, regular: Person) -> None:
    for query in (f"user={regular.key}", f"objectId={regular.account.object_id}"):
        assert regular.account.object_id not in settled.get(f"/api/me/export?{query}").text


@pytest.mark.parametrize("way", ["page", "api"])
def test_erasure_leaves_nothing_and_signs_the_browser_out(
    azure: LocalAzure,
    tables: TableServiceClient,
    settled: Person,
    second: Person,
    other_service: Service,
    way: str,
) -> None:
    token, identity = settled.token().json()["token"], get_identity(tables, settled)
    old = settled.at(other_service.url)
    if way == "page":
        page = read_page(settled, "/account/delete")
        assert "cannot be undone" in page.get_text()
        answer = submit(settled, "/account/delete")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    else:
        answer = send_delete(settled)
        assert (answer.status_code, answer.content) == (204, b"")
    cookie = read_cookies(answer)["session"]
    assert cookie.value == ""
    assert cookie.attributes["max-age"] == "0"
    assert "session" not in settled.http.cookies
    for browser in (old, second):
        assert_signed_out(browser, other_service.url, settled.url)
    assert list_identity_rows(tables, settled) == list_sessions(tables, settled) == []
    wait_until_forgotten(tables, settled.account.object_id)
    assert identity not in azure.list_identities()
    assert azure.check_token(token)["valid"] is False
    assert settled.sign_in().status_code == 302
    assert settled.me()["communicationUserId"] is None


def test_erasure_with_a_bearer_token_is_204_twice(
    azure: LocalAzure, tables: TableServiceClient, settled: Person, other_service: Service
) -> None:
    headers = bearer(azure, settled)
    for url in (settled.url, other_service.url):
        answer = call("DELETE", f"{url}/api/me", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "Set-Cookie" not in answer.headers
    assert list_identity_rows(tables, settled) == list_sessions(tables, settled) == []
    assert call("GET", f"{settled.url}/api/me", headers=headers).json()["communicationUserId"] is None


def test_erasure_of_somebody_who_never_had_a_token(tables: TableServiceClient, signed_in: Person) -> None:
    assert send_delete(signed_in).status_code == 204
    assert list_sessions(tables, signed_in) == []


def test_erasure_that_failed_is_finished_by_the_next(
    azure: LocalAzure, tables: TableServiceClient, settled: Person
) -> None:
    azure.plant_fault("acs", "delete", "status", status=503, times=None)
    assert_problem(send_delete(settled), 503, "upstream_unavailable")
    azure.clear_faults()
    settled.sign_in()
    assert send_delete(settled).status_code == 204
    assert list_identity_rows(tables, settled) == []


@pytest.mark.parametrize("path", ["/account/end-session", "/account/revoke", "/account/delete"])
def test_form_without_the_csrf_value_does_nothing(
    tables: TableServiceClient, settled: Person, second: Person, path: str
) -> None:
    for value in ("", "x", second.me()["csrfToken"]):
        assert_error_page(settled.post(path, data={"csrf_token": value}), 403)
    assert settled.get("/api/me").status_code == second.get("/api/me").status_code == 200
    assert len(list_identity_rows(tables, settled)) == 1


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/me/revoke"), ("DELETE", "/api/me")])
def test_api_without_the_csrf_value_does_nothing(
    tables: TableServiceClient, settled: Person, second: Person, method: str, path: str
) -> None:
    for value in (None, "", "x", second.me()["csrfToken"]):
        headers = {} if value is None else {"X-CSRFToken": value}
        answer = settled.http.request(method, settled.url + path, headers=headers, timeout=30)
        assert_problem(answer, 403, "csrf_failed")
    assert len(list_identity_rows(tables, settled)) == 1


@pytest.mark.parametrize("path", ["/account", "/account/delete"])
def test_pages_send_the_signed_out_to_sign_in(person: Person, path: str) -> None:
    answer = person.get(path)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/auth/sign-in?next=")


def test_pages_of_the_account_are_503_while_the_storage_is_down(
    settled: Person, storage_proxy: StorageProxy
) -> None:
    storage_proxy.plant(Fault(kind="status", method="GET", table="identities"))
    assert_error_page(settled.get("/account"), 503)


def test_name_with_markup_is_text_on_the_page(new_person: Callable[..., Person]) -> None:
    person = new_person(name="<b>Bold</b><script>alert(1)</script>")
    person.sign_in()
    page = read_page(person)
    assert "<b>Bold</b><script>alert(1)</script>" in page.get_text()
