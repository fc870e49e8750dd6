"""Signing out: here, on every instance, then at Entra ID, and only when the person meant it."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup

from tests.support.cookies import read_cookies, send_cookies
from tests.support.local_azure import LocalAzure
from tests.support.log import read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy


def silent_sign_in(person: Person) -> dict[str, list[str]]:
    """What Entra ID answers this browser when it is asked without showing a page."""
    location = person.get("/auth/sign-in").headers["Location"]
    answer = person.http.get(f"{location}&prompt=none", allow_redirects=False, timeout=30)
    return parse_qs(urlsplit(answer.headers["Location"]).query)


def test_sign_out_ends_the_session_everywhere_and_goes_on_to_entra(
    azure: LocalAzure, service: Service, other_service: Service, tables: TableServiceClient, signed_in: Person
) -> None:
    value = signed_in.http.cookies["session"]
    assert "code" in silent_sign_in(signed_in)
    answer = signed_in.sign_out()
    assert answer.status_code == 303
    target = urlsplit(answer.headers["Location"])
    assert f"{target.scheme}://{target.netloc}" == azure.get_app().page_origin
    assert target.path.endswith("/oauth2/v2.0/logout")
    parameters = parse_qs(target.query, strict_parsing=True)
    assert parameters["post_logout_redirect_uri"] == [f"{service.url}/"]
    assert set(parameters) <= {"post_logout_redirect_uri", "logout_hint", "client_id"}
    for instance in (service, other_service):
        assert send_cookies(f"{instance.url}/api/me", f"session={value}").status_code == 401
    assert signed_in.get("/api/me").status_code == 401
    assert list_sessions(tables, signed_in) == []
    assert read_event(service, answer, "session_expired")["user"] == signed_in.key
    # At Entra ID the browser's session ends without a question, and the browser comes back to us.
    back = signed_in.http.get(answer.headers["Location"], allow_redirects=False, timeout=30)
    assert (back.status_code, back.headers["Location"]) == (302, f"{service.url}/")
    assert silent_sign_in(signed_in)["error"] == ["login_required"]


def test_sign_out_leaves_nothing_in_the_browser(signed_in: Person) -> None:
    answer = signed_in.sign_out()
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert answer.headers["Cache-Control"] == "no-store"
    cookie = read_cookies(answer)["session"]
    assert (cookie.value, cookie.attributes["max-age"]) == ("", "0")
    assert "session" not in signed_in.http.cookies


def test_sign_out_ends_this_session_only(service: Service, signed_in: Person) -> None:
    elsewhere = Person(signed_in.azure, service.url, signed_in.account)
    assert elsewhere.sign_in().status_code == 302
    assert signed_in.sign_out().status_code == 303
    assert elsewhere.get("/api/me").status_code == 200


def test_sign_out_form_of_the_page_works(signed_in: Person) -> None:
    page = BeautifulSoup(signed_in.get("/").text, "html.parser")
    form = page.find("form", action="/auth/sign-out")
    assert form is not None
    assert form["method"] == "post"
    fields = {str(item["name"]): str(item["value"]) for item in form.find_all("input")}
    origin = {"Origin": signed_in.url}
    assert signed_in.post("/auth/sign-out", data=fields, headers=origin).status_code == 303
    assert signed_in.get("/api/me").status_code == 401


def test_sign_out_takes_the_value_in_a_header_too(signed_in: Person) -> None:
    assert signed_in.post("/auth/sign-out", headers=signed_in.csrf_headers()).status_code == 303


@pytest.mark.parametrize("value", ["", "0", "A" * 43, "é", "\x00", "A" * 15_000, None])
def test_sign_out_without_the_csrf_value_is_refused(
    service: Service, signed_in: Person, value: str | None
) -> None:
    data = {} if value is None else {"csrf_token": value}
    answer = signed_in.post("/auth/sign-out", data=data)
    assert_error_page(answer, 403)
    assert read_event(service, answer, "authz_fail")["reason"] == "csrf"
    assert signed_in.get("/api/me").status_code == 200


def test_sign_out_with_a_foreign_csrf_value_is_refused(
    new_person: Callable[..., Person], signed_in: Person
) -> None:
    somebody = new_person()
    assert somebody.sign_in().status_code == 302
    before = signed_in.me()["csrfToken"]
    assert signed_in.sign_in().status_code == 302
    session_id, signature = signed_in.http.cookies["session"].split(".")
    for value in (before, somebody.me()["csrfToken"], session_id, signature):
        assert_error_page(signed_in.post("/auth/sign-out", data={"csrf_token": value}), 403)
        assert_error_page(signed_in.post("/auth/sign-out", headers={"X-CSRFToken": value}), 403)
        assert_error_page(signed_in.post(f"/auth/sign-out?csrf_token={value}"), 403)
    assert signed_in.get("/api/me").status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://attacker.example",
        "null",
        "",
        "{url}.attacker.example",
        "{url}/",
        "https{rest}",
        "http://localhost:1",
    ],
)
def test_sign_out_from_another_origin_is_refused(signed_in: Person, origin: str) -> None:
    origin = origin.format(url=signed_in.url, rest=signed_in.url.removeprefix("http"))
    data = {"csrf_token": signed_in.me()["csrfToken"]}
    assert_error_page(signed_in.post("/auth/sign-out", data=data, headers={"Origin": origin}), 403)
    assert signed_in.get("/api/me").status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_sign_out_takes_post_only(signed_in: Person, method: str) -> None:
    headers = signed_in.csrf_headers()
    answer = signed_in.http.request(
        method, f"{signed_in.url}/auth/sign-out", headers=headers, allow_redirects=False, timeout=30
    )
    assert answer.status_code == (200 if method == "OPTIONS" else 405)
    assert signed_in.get("/api/me").status_code == 200


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_method_cannot_be_overridden(signed_in: Person, header: str) -> None:
    headers = signed_in.csrf_headers() | {header: "POST"}
    assert signed_in.get("/auth/sign-out?_method=POST", headers=headers).status_code == 405
    assert signed_in.get("/api/me").status_code == 200


def test_sign_out_when_signed_out_goes_on_to_entra(
    azure: LocalAzure, service: Service, person: Person
) -> None:
    # Their session here has ended by itself; the one at Entra ID may not have.
    answer = person.post("/auth/sign-out", headers={"Origin": service.url})
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(azure.get_app().page_origin)
    assert "logout_hint" not in answer.headers["Location"]
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://attacker.example"}, {"Origin": "null"}])
def test_sign_out_by_another_site_signs_nobody_out_of_entra(person: Person, headers: dict[str, str]) -> None:
    # A form of another site comes without our Lax cookie, so it looks signed out.
    answer = person.post("/auth/sign-out", headers=headers)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


def test_sign_out_twice_is_fine(signed_in: Person) -> None:
    data, value = {"csrf_token": signed_in.me()["csrfToken"]}, signed_in.http.cookies["session"]
    assert signed_in.post("/auth/sign-out", data=data).status_code == 303
    again = signed_in.post("/auth/sign-out", data=data, headers={"Cookie": f"session={value}"})
    assert again.status_code == 303


def test_sign_out_that_the_storage_does_not_do_is_not_claimed(
    storage_proxy: StorageProxy, signed_in: Person
) -> None:
    data = {"csrf_token": signed_in.me()["csrfToken"]}
    storage_proxy.plant(Fault(kind="status", method="DELETE", table="sessions", status=500))
    answer = signed_in.post("/auth/sign-out", data=data)
    assert_error_page(answer, 503)
    assert "Clear-Site-Data" not in answer.headers
    storage_proxy.clear()
    assert signed_in.post("/auth/sign-out", data=data).status_code == 303
    assert signed_in.get("/api/me").status_code == 401


def test_signing_in_after_signing_out_works(signed_in: Person) -> None:
    for _ in range(3):
        assert signed_in.sign_out().status_code == 303
        assert signed_in.sign_in().status_code == 302
    assert signed_in.get("/api/me").status_code == 200
