"""Session cookie: its attributes, the refusal of every forged value, and key rotation."""

from collections.abc import Callable, Iterator

import pytest
import requests

from tests.support.admin_client import finish_sign_in_at
from tests.support.cookies import SESSION, SetCookie, read_cookies, send_cookies
from tests.support.flows import PREFIX, flow_cookies
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service

HTTPS_URL = "https://localhost:8443"
NEW_KEY = "another-key-for-tests-0123456789abc"


@pytest.fixture(scope="module")
def https_service(settings: dict[str, str]) -> Iterator[Service]:
    """An instance behind a proxy that terminates TLS."""
    with Service(settings | {"PUBLIC_URL": HTTPS_URL}) as running:
        yield running


@pytest.fixture(scope="module")
def new_key(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance with a new key that still accepts the old one."""
    keys = {"SECRET_KEY": NEW_KEY, "SECRET_KEY_FALLBACKS": service.env["SECRET_KEY"]}
    with Service(settings | keys | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.fixture(scope="module")
def new_key_alone(settings: dict[str, str], service: Service) -> Iterator[Service]:
    with Service(settings | {"SECRET_KEY": NEW_KEY, "PUBLIC_URL": service.url}) as running:
        yield running


def assert_attributes(cookie: SetCookie, *, secure: bool, cleared: bool = False) -> None:
    attributes = dict(cookie.attributes)
    assert attributes.pop("httponly", None) == ""
    assert attributes.pop("samesite") == "Lax"
    assert attributes.pop("path") == "/"
    assert (attributes.pop("secure", None) == "") is secure
    assert cookie.name.startswith("__Host-") is secure
    assert set(attributes) == {"max-age", "expires"}
    assert ((cookie.value, attributes["max-age"]) == ("", "0")) is cleared


def test_cookies_over_http(person: Person) -> None:
    start = person.get("/auth/sign-in")
    (flow,) = read_cookies(start).values()
    assert_attributes(flow, secure=False)
    assert flow.attributes["max-age"] == "600"
    callback = person.azure.sign_in(person.http, start.headers["Location"], person.account.username)
    cookies = read_cookies(person.finish_sign_in(callback))
    assert set(cookies) == {SESSION, flow.name}
    assert_attributes(cookies[SESSION], secure=False)
    assert cookies[SESSION].attributes["max-age"] == str(480 * 60)
    assert_attributes(cookies[flow.name], secure=False, cleared=True)


def test_cookies_over_https(azure: LocalAzure, https_service: Service) -> None:
    # As the proxy forwards it.
    start = send_cookies(f"{https_service.url}/auth/sign-in", "")
    ((flow, cookie),) = read_cookies(start).items()
    assert_attributes(cookie, secure=True)
    with azure.make_session() as browser:
        callback = azure.sign_in(browser, start.headers["Location"], "alice@contoso.example")
    assert callback.startswith(f"{HTTPS_URL}/auth/callback?")
    signed_in = send_cookies(callback.replace(HTTPS_URL, https_service.url), f"{flow}={cookie.value}")
    assert (signed_in.status_code, signed_in.headers["Location"]) == (302, "/")
    cookies = read_cookies(signed_in)
    assert set(cookies) == {"__Host-session", flow}
    assert_attributes(cookies["__Host-session"], secure=True)
    assert_attributes(cookies[flow], secure=True, cleared=True)
    me, value = f"{https_service.url}/api/me", cookies["__Host-session"].value
    for name in ("session", SESSION, "__Secure-session", "__host-session", "Session"):
        assert send_cookies(me, f"{name}={value}").status_code == 401
    session = f"__Host-session={value}"
    headers = {"Cookie": session, "X-CSRFToken": send_cookies(me, session).json()["csrfToken"]}
    url = f"{https_service.url}/auth/sign-out"
    response = requests.post(url, headers=headers, allow_redirects=False, timeout=30)
    assert response.status_code == 303
    assert_attributes(read_cookies(response)["__Host-session"], secure=True, cleared=True)


def test_only_sign_in_sets_a_session_cookie(service: Service, shared_user: Person) -> None:
    for path in ("/", "/api/me", "/healthz", "/static/site.css", "/nothing", "/auth/front-channel-logout"):
        assert read_cookies(send_cookies(f"{service.url}{path}", "")) == {}
        assert read_cookies(shared_user.get(path)) == {}


def forge(value: str) -> list[bytes]:
    """Return invalid variants of the session's value."""
    start, end = value.split(".")
    flipped = [value[:at] + ("1" if value[at] == "0" else "0") + value[at + 1 :] for at in (0, 40)]
    texts = [
        *("", "garbage", "....", start, f".{end}", f"{value}.{end}", f"{value}A", value + "A" * 6000),
        *(value[:-1], value[: len(value) // 2], value[2:], *flipped, value.upper()),
        *(f"{value[:32]} {value[32:]}", value.replace(".", "%2e"), f"{value}%00", f'"\\141\\377{value}"'),
        *("é", f"\uff11{value[1:]}"),  # the second has a full-width digit
        # Two cookies of the same name.
        *(f"planted; {SESSION}={value}", f"{value}; {SESSION}=planted", f"; {SESSION}={value}"),
    ]
    return [*(text.encode() for text in texts), b"\xff\xfe"]


def test_forged_cookie_opens_no_session(service: Service, shared_user: Person) -> None:
    value = shared_user.http.cookies[SESSION]
    assert send_cookies(f"{service.url}/api/me", f"{SESSION}={value}").status_code == 200
    for forged in forge(value):
        header = f"{SESSION}=".encode() + forged
        response = send_cookies(f"{service.url}/api/me", header)
        assert (response.status_code, response.json()["code"]) == (401, "not_signed_in"), forged
        page = send_cookies(f"{service.url}/", header)
        assert page.status_code == 200, forged
        assert shared_user.account.object_id not in page.text
        assert send_cookies(f"{service.url}/auth/sign-in", header).status_code == 302, forged
        assert_error_page(send_cookies(f"{service.url}/auth/callback?code=1&state=2", header), 400)


def test_oversized_cookie_header_is_refused(service: Service) -> None:
    assert send_cookies(f"{service.url}/api/me", f"{SESSION}={'A' * 60_000}").status_code in (400, 431)
    assert send_cookies(f"{service.url}/api/me", SESSION).status_code == 401


def test_other_signed_values_are_no_session(service: Service, signed_in: Person) -> None:
    value = signed_in.http.cookies[SESSION]
    csrf = signed_in.me()["csrfToken"]
    signed_in.start_sign_in()
    (flow,) = flow_cookies(signed_in).values()
    session_id = value.split(".")[0]
    for other in (flow, csrf, f"{session_id}.{csrf}", f"{session_id}.{flow.split('.')[-1]}"):
        assert send_cookies(f"{service.url}/api/me", f"{SESSION}={other}").status_code == 401


@pytest.mark.parametrize("end", ["", "é", "x y", "\x7f", '"', "%0d"])
def test_foreign_flow_cookies_are_harmless(service: Service, end: str) -> None:
    junk = "; ".join(f"{PREFIX}{end}{number}=junk" for number in range(12)).encode()
    response = send_cookies(f"{service.url}/auth/sign-in", junk)
    assert response.status_code in (302, 400)  # 400: gunicorn rejects control characters
    assert send_cookies(f"{service.url}/", junk).status_code in (200, 400)


def test_session_id_is_always_new(
    service: Service, new_person: Callable[..., Person], person: Person
) -> None:
    # An attacker plants their own session, or a made-up id, in the victim's browser.
    attacker = new_person().signed_in()
    seen: set[str] = set()
    for planted in (attacker.http.cookies[SESSION], "0" * 96, f"{'0' * 96}.{'A' * 43}"):
        person.http.cookies.clear()
        person.http.cookies.set(SESSION, planted, domain="localhost.local", path="/")
        person.signed_in()
        value = person.http.cookies.get(SESSION, domain="localhost.local")
        assert value not in (planted, *seen)
        assert value is not None
        assert value.split(".")[0][32:] not in planted
        seen.add(value)
        assert person.me()["user"]["objectId"] == person.account.object_id
        assert send_cookies(f"{service.url}/api/me", f"{SESSION}={planted}").status_code == 401


def test_key_rotation_keeps_sessions_and_csrf_values(new_key: Service, signed_in: Person) -> None:
    assert signed_in.at(new_key.url).token(csrf=signed_in.csrf_headers()).status_code == 200


def test_key_rotation_keeps_pending_sign_ins(new_key: Service, person: Person) -> None:
    assert finish_sign_in_at(person, new_key.url).status_code == 302
    assert person.at(new_key.url).is_signed_in()
    # The new session is signed with the new key.
    assert person.get("/api/me").status_code == 401


def test_removed_key_ends_sessions(new_key: Service, new_key_alone: Service, signed_in: Person) -> None:
    csrf = signed_in.csrf_headers()
    person = signed_in.at(new_key_alone.url)
    assert person.get("/api/me").status_code == 401
    again = signed_in.at(new_key.url)
    callback = again.start_sign_in().replace(signed_in.url, new_key.url)
    assert again.finish_sign_in(callback).status_code == 302
    assert again.at(new_key_alone.url).is_signed_in()
    assert_problem(again.at(new_key_alone.url).token(csrf=csrf), 403, "csrf_failed")
    assert_error_page(person.finish_sign_in(person.start_sign_in()), 400)
