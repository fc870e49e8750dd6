"""Sign-out: here, at Entra ID and from there, on every instance, and never by a forged request."""

import uuid
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup

from tests.support.concurrency import timed
from tests.support.cookies import SESSION, read_cookies, send_cookies
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event, read_events
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import list_rows, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, Kind, StorageProxy

FRONT_CHANNEL = "/auth/front-channel-logout"


def silent_sign_in(person: Person) -> dict[str, list[str]]:
    """Return the parameters of Entra ID's response to a sign-in with prompt=none."""
    location = person.get("/auth/sign-in").headers["Location"]
    response = person.http.get(f"{location}&prompt=none", allow_redirects=False, timeout=30)
    return parse_qs(urlsplit(response.headers["Location"]).query)


def test_sign_out_ends_session_everywhere(
    azure: LocalAzure, service: Service, other_service: Service, tables: TableServiceClient, signed_in: Person
) -> None:
    value = signed_in.http.cookies[SESSION]
    assert "code" in silent_sign_in(signed_in)
    # Neither the form nor the URL chooses the page after sign-out.
    names = ("next", "post_logout_redirect_uri", "redirect_uri", "returnTo", "url")
    evil = dict.fromkeys(names, "https://evil.example/")
    response = signed_in.post(
        f"/auth/sign-out?{urlencode(evil)}",
        data=evil | {"csrf_token": signed_in.me()["csrfToken"]},
        headers={"X-Forwarded-Host": "evil.example"},
    )
    assert response.status_code == 303
    target = urlsplit(response.headers["Location"])
    assert f"{target.scheme}://{target.netloc}" == azure.get_app().page_origin
    assert target.path.endswith("/oauth2/v2.0/logout")
    parameters = parse_qs(target.query, strict_parsing=True)
    assert parameters["post_logout_redirect_uri"] == [f"{service.url}/"]
    assert set(parameters) <= {"post_logout_redirect_uri", "logout_hint", "client_id"}
    for instance in (service, other_service):
        assert send_cookies(f"{instance.url}/api/me", f"{SESSION}={value}").status_code == 401
    assert list_sessions(tables, signed_in) == []
    assert read_event(service, response, "session_expired")["user"] == signed_in.key
    # Nothing is left in the browser.
    assert response.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert response.headers["Cache-Control"] == "no-store"
    cookie = read_cookies(response)[SESSION]
    assert (cookie.value, cookie.attributes["max-age"]) == ("", "0")
    assert SESSION not in signed_in.http.cookies
    # Entra ID ends its session without a prompt and redirects back to us.
    back = signed_in.http.get(response.headers["Location"], allow_redirects=False, timeout=30)
    assert (back.status_code, back.headers["Location"]) == (302, f"{service.url}/")
    assert silent_sign_in(signed_in)["error"] == ["login_required"]


def test_sign_out_form_works_repeatedly(signed_in: Person) -> None:
    for _ in range(3):
        form = BeautifulSoup(signed_in.get("/").text, "html.parser").find("form", action="/auth/sign-out")
        assert form is not None
        assert form["method"] == "post"
        fields = {str(item["name"]): str(item["value"]) for item in form.find_all("input")}
        origin = {"Origin": signed_in.url}
        assert signed_in.post("/auth/sign-out", data=fields, headers=origin).status_code == 303
        assert signed_in.get("/api/me").status_code == 401
        signed_in.signed_in()


def test_sign_out_with_wrong_csrf_is_refused(
    service: Service, shared_user: Person, signed_in: Person
) -> None:
    before = signed_in.me()["csrfToken"]
    session_id, signature = signed_in.signed_in().http.cookies[SESSION].split(".")
    foreign = (before, shared_user.me()["csrfToken"], session_id, signature)
    for value in (None, "", "0", "A" * 43, "é", "\x00", "A" * 15_000, *foreign):
        response = signed_in.post("/auth/sign-out", data={} if value is None else {"csrf_token": value})
        assert_error_page(response, 403)
        assert read_event(service, response, "authz_fail")["reason"] == "csrf"
    for value in foreign:
        assert_error_page(signed_in.post("/auth/sign-out", headers={"X-CSRFToken": value}), 403)
        assert_error_page(signed_in.post(f"/auth/sign-out?csrf_token={value}"), 403)
    assert signed_in.is_signed_in()


def test_page_of_earlier_session_leads_on(signed_in: Person) -> None:
    earlier = signed_in.me()["csrfToken"]
    signed_in.signed_in()
    for path in ("/auth/sign-out", "/account/end-session"):
        page = assert_error_page(signed_in.post(path, data={"csrf_token": earlier}), 403)
        assert "earlier session" in page.get_text()
        assert page.find("a", string="Go to the home page", href="/")
    fresh = page.select_one("form[action='/auth/sign-out'] input")
    assert fresh is not None
    assert signed_in.post("/auth/sign-out", data={"csrf_token": str(fresh["value"])}).status_code == 303


def test_sign_out_from_another_origin_is_refused(signed_in: Person) -> None:
    url, data = signed_in.url, {"csrf_token": signed_in.me()["csrfToken"]}
    foreign = ["https://attacker.example", "null", "", "http://localhost:1"]
    for origin in (*foreign, f"{url}.attacker.example", f"{url}/", url.replace("http", "https")):
        assert_error_page(signed_in.post("/auth/sign-out", data=data, headers={"Origin": origin}), 403)
    assert signed_in.is_signed_in()


@pytest.mark.parametrize("origin", [None, "https://attacker.example", "null", "own"])
def test_sign_out_without_session_requires_own_origin(
    azure: LocalAzure, person: Person, origin: str | None
) -> None:
    # The session here may have expired while the one at Entra ID has not. A cross-site form comes without
    # our Lax cookie, so it looks signed out too, but must not end the session at Entra ID.
    headers = {} if origin is None else {"Origin": person.url if origin == "own" else origin}
    response = person.post("/auth/sign-out", headers=headers)
    assert response.status_code == 303
    if origin != "own":
        assert response.headers["Location"] == "/"
    else:
        assert response.headers["Location"].startswith(azure.get_app().page_origin)
        assert "logout_hint" not in response.headers["Location"]
        assert response.headers["Clear-Site-Data"] == '"cache", "storage"'


def test_sign_out_ends_this_session_only(signed_in: Person) -> None:
    elsewhere = signed_in.in_new_browser()
    headers = signed_in.csrf_headers() | {"Cookie": f"{SESSION}={signed_in.http.cookies[SESSION]}"}
    for _ in range(2):
        assert signed_in.post("/auth/sign-out", headers=headers).status_code == 303
    assert elsewhere.is_signed_in()


def test_failed_sign_out_is_reported(storage_proxy: StorageProxy, signed_in: Person) -> None:
    data = {"csrf_token": signed_in.me()["csrfToken"]}
    storage_proxy.plant(Fault(kind="status", method="DELETE", table="sessions", status=500))
    response = signed_in.post("/auth/sign-out", data=data)
    assert_error_page(response, 503)
    assert "Clear-Site-Data" not in response.headers
    storage_proxy.clear()
    assert signed_in.post("/auth/sign-out", data=data).status_code == 303
    assert signed_in.get("/api/me").status_code == 401


@pytest.fixture
def registered(azure: LocalAzure, service: Service) -> Iterator[None]:
    """Registers our front-channel logout URL at Entra ID."""
    azure.change_app(frontChannelLogoutUrl=f"{service.url}{FRONT_CHANNEL}")
    yield
    azure.change_app(frontChannelLogoutUrl=None)


def sign_in_as(person: Person, sid: str) -> str:
    """Sign in from the Entra ID session with this id; return the id."""
    person.azure.tamper("claims", claims={"sid": sid})
    person.signed_in()
    return sid


@pytest.fixture
def sid(person: Person) -> str:
    """The id of the Entra ID session that started the person's only session here."""
    return sign_in_as(person, str(uuid.uuid4()))


def frame(url: str) -> requests.Response:
    """Load the URL as a cross-site frame does: without Lax cookies."""
    response = send_cookies(url, "")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    return response


@pytest.mark.usefixtures("registered")
def test_signing_out_at_entra_ends_sessions_here(
    service: Service, other_service: Service, shared_user: Person, person: Person
) -> None:
    again = person.signed_in().at(service.url)
    again.http.cookies.clear("localhost.local", "/", SESSION)
    again.signed_in()  # a second session from the same Entra ID session
    location = shared_user.get("/auth/sign-in").headers["Location"].partition("?")[0]
    page = person.http.get(location.replace("/authorize", "/logout"), timeout=30)
    (address,) = [str(item["src"]) for item in BeautifulSoup(page.text, "html.parser").find_all("iframe")]
    assert urlsplit(address).path == FRONT_CHANNEL
    parameters = parse_qs(urlsplit(address).query)
    assert set(parameters) == {"sid", "iss"}
    event = read_event(service, frame(address), "session_expired")
    assert (event["reason"], event["sessions"]) == ("front-channel", 2)
    for instance in (service, other_service):
        for browser in (person, again):
            assert browser.at(instance.url).get("/api/me").status_code == 401
    assert shared_user.is_signed_in()
    assert_not_logged(service, parameters["sid"][0])


def test_logout_leaves_no_row(tables: TableServiceClient, person: Person, sid: str) -> None:
    (row,) = list_sessions(tables, person)
    index = f"{row['PartitionKey']}.{row['RowKey']}"
    assert len(list_rows(tables, "sessions", "RowKey", index)) == 1
    for _ in range(2):
        frame(f"{person.url}{FRONT_CHANNEL}?sid={sid}")
        assert list_sessions(tables, person) == []
        assert list_rows(tables, "sessions", "RowKey", index) == []
    sign_in_as(person, sid)
    assert person.sign_out().status_code == 303
    frame(f"{person.url}{FRONT_CHANNEL}?sid={sid}")
    person.signed_in()  # from another Entra ID session
    frame(f"{person.url}{FRONT_CHANNEL}?sid={sid}")
    assert person.is_signed_in()


@pytest.mark.parametrize(("length", "slash"), [(1, ""), (256, "/"), (257, ""), (300, ""), (1024, "/")])
def test_sid_of_any_length_signs_out(person: Person, length: int, slash: str) -> None:
    value = sign_in_as(person, (uuid.uuid4().hex * 32)[:length])
    frame(f"{person.url}{FRONT_CHANNEL}{slash}?sid={value}")
    assert person.get("/api/me").status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        *("", "sid", "sid=", "sid=%00", "sid=%ff%fe", "sid=%ED%A0%80", "sid=+", "sid=%0d%0aX:y"),
        *("sid=' or PartitionKey ne '", "sid=../../x", "sid=a/b\\c%23d%3Fe", "sid=<script>", "sid[]=x"),
        *("sid=00000000-0000-0000-0000-000000000000", f"sid={'a' * 1025}", f"sid={'a' * 6000}"),
        *("sid=x&sid=y", "sid=x&iss=//attacker.example", "iss=x", "SID={sid}", "sid={sid}%00"),
        *("sid=%20{sid}", "sid={half}", "sid={upper}"),
    ],
)
def test_logout_with_unknown_sid_is_harmless(service: Service, person: Person, sid: str, query: str) -> None:
    for name, value in {"{sid}": sid, "{half}": sid[:18], "{upper}": sid.upper()}.items():
        query = query.replace(name, value)
    response = frame(f"{person.url}{FRONT_CHANNEL}?{query}")
    assert response.text == ""
    assert [event["event"] for event in read_events(service, response)] == ["request"]
    assert person.is_signed_in()


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        *(("GET", "status"), ("GET", "reset"), ("GET", "half"), ("GET", "hang")),
        *(("DELETE", "status"), ("DELETE", "reset")),
    ],
)
def test_logout_survives_storage_outage(
    storage_proxy: StorageProxy, service: Service, person: Person, sid: str, method: str, kind: Kind
) -> None:
    storage_proxy.plant(Fault(kind=kind, method=method))
    response, seconds = timed(lambda: frame(f"{service.url}{FRONT_CHANNEL}?sid={sid}"))
    assert seconds < 15
    assert read_event(service, response, "front_channel_logout_failed")["reason"].startswith("Table Storage")
    storage_proxy.clear()
    # A repeated logout completes what failed.
    frame(f"{service.url}{FRONT_CHANNEL}?sid={sid}")
    assert person.get("/api/me").status_code == 401
