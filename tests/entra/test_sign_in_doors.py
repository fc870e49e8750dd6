"""Ways into sign-in: other hosts and schemes, clocks that differ, reloads, consent, and foreign cookies."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.admin_client import call
from tests.support.cookies import SESSION, read_cookies
from tests.support.flows import read_own_flow, write_own_flow
from tests.support.log import read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page, read_page
from tests.support.person import Person
from tests.support.service import Service

PUBLIC_HOST = "calls.contoso.example"
PUBLIC_URL = f"https://{PUBLIC_HOST}"
CONSENT = "admin_consent=True&tenant=5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001"
NUMBERED = (
    "error=consent_required&error_description=AADSTS65004:+x+Trace+ID:+0c0ffee0-7d34-4e86-9a1b-0c0ffee0c001"
)
FOREIGN = {"session": "eyJfaWQiOjF9.aVgQYA.x", "csrf_token": "x", "sign-in-0": "x", "a": "x y%"}
FOREIGN |= {f"foreign-{number}": "x" * 300 for number in range(30)}


@pytest.fixture(scope="module")
def behind_tls(settings: dict[str, str]) -> Iterator[Service]:
    """An instance behind one proxy that terminates TLS."""
    with Service(settings | {"PUBLIC_URL": PUBLIC_URL, "TRUSTED_PROXY_HOPS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def page_origin(world: World) -> str:
    return world.azure.get_app().page_origin


def start(service: Service, host: str, query: str = "", method: str = "GET", **forwarded: str) -> str:
    """Start a sign-in with this Host header; return where the browser is sent, which must be somewhere."""
    headers = {"Host": host} | {f"X-Forwarded-{name}": value for name, value in forwarded.items()}
    response = call(method, f"{service.url}/auth/sign-in{query}", headers=headers)
    assert response.status_code == 302
    location = response.headers["Location"]
    assert ("Set-Cookie" in response.headers) is ("/auth/sign-in" not in location)
    return location


@pytest.mark.parametrize("seconds", [1, 55])
def test_flow_of_a_fast_clock_is_accepted(service: Service, person: Person, seconds: int) -> None:
    callback = person.start_sign_in()
    write_own_flow(service, person, read_own_flow(service, person), seconds_ago=-seconds)
    assert person.finish_sign_in(callback).status_code == 302


def test_flow_from_the_future_is_refused(service: Service, person: Person) -> None:
    callback = person.start_sign_in()
    write_own_flow(service, person, read_own_flow(service, person), seconds_ago=-90)
    assert_error_page(person.finish_sign_in(callback), 400)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "app.azurewebsites.net",
        "localhost.",
        "[::1]:8000",
        "::1",
        "localhost.evil.example:80",
    ],
)
def test_sign_in_elsewhere_moves_to_public_url(service: Service, host: str) -> None:
    for method in ("GET", "HEAD"):
        query = "?next=/account%3Fdone%3Dx&prompt=select_account&other=x"
        target = urlsplit(start(service, host, query, method))
        assert f"{target.scheme}://{target.netloc}{target.path}" == f"{service.url}/auth/sign-in"
        kept = {"next": ["/account?done=x"], "prompt": ["select_account"], "moved": ["1"]}
        assert parse_qs(target.query) == kept
    assert "evil" not in start(service, host, "?next=//evil.example&prompt=none&moved")


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "LocalHost:8000", ""])
def test_sign_in_at_public_host_goes_to_entra(service: Service, page_origin: str, host: str) -> None:
    assert start(service, host).startswith(page_origin)


def test_sign_in_begun_elsewhere_succeeds(world: World, person: Person) -> None:
    elsewhere = world.service.url.replace("localhost", "127.0.0.1")
    asked = person.get(f"{elsewhere}/account")
    moved = person.get(f"{elsewhere}{asked.headers['Location']}")
    to_entra = person.get(moved.headers["Location"]).headers["Location"]
    callback = world.azure.sign_in(person.http, to_entra, person.account.username)
    assert person.finish_sign_in(callback).headers["Location"] == "/account"


@pytest.mark.parametrize(
    ("forwarded", "moves"),
    [
        ({}, False),
        ({"Proto": "https"}, False),
        ({"Proto": "http"}, True),
        ({"Proto": "HTTP"}, True),
        ({"Proto": "https, http"}, True),
        ({"Proto": "http, https"}, False),
        ({"Proto": "https", "Host": "other.example"}, True),
        ({"Proto": "https", "Host": f"{PUBLIC_HOST.upper()}:8443"}, False),
        ({"Host": f"other.example, {PUBLIC_HOST}"}, False),
    ],
)
def test_trusted_proxy_tells_where_sign_in_begins(
    behind_tls: Service, page_origin: str, forwarded: dict[str, str], moves: bool
) -> None:
    expected = f"{PUBLIC_URL}/auth/sign-in?moved=1" if moves else page_origin
    assert start(behind_tls, PUBLIC_HOST, **forwarded).startswith(expected)
    if "Host" in forwarded:
        assert start(behind_tls, "10.0.0.4:8000", **forwarded).startswith(expected)


def test_hidden_host_causes_no_loop(behind_tls: Service, page_origin: str) -> None:
    for forwarded in ({}, {"Proto": "http"}, {"Host": "other.example"}):
        location = start(behind_tls, "10.0.0.4", "?next=/account", **forwarded)
        assert location.startswith(f"{PUBLIC_URL}/auth/sign-in?")
        again = start(behind_tls, "10.0.0.4", f"?{urlsplit(location).query}", **forwarded)
        assert again.startswith(page_origin)


def test_other_routes_ignore_the_host(behind_tls: Service) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/", 200), ("/api/me", 401)):
        proxied = {"Host": "10.0.0.4", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "other.example"}
        assert call("GET", f"{behind_tls.url}{path}", headers=proxied).status_code == status, path


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        ("prompt=select_account", ["select_account"]),
        *((query, None) for query in ("prompt=none", "prompt=login", "prompt=", "prompt=SELECT_ACCOUNT")),
        ("prompt=select_account&prompt=none", None),
    ],
)
def test_only_account_choice_is_passed_on(person: Person, query: str, prompt: list[str] | None) -> None:
    location = person.get(f"/auth/sign-in?{query}").headers["Location"]
    assert parse_qs(urlsplit(location).query).get("prompt") == prompt


def test_refused_person_is_offered_another_account(world: World) -> None:
    guest = Person(world.azure, world.service.url, world.azure.get_account("guest@fabrikam.example"))
    blocked = world.new_user()
    world.admin.do("api", blocked, "block")
    for person in (guest, blocked):
        page = assert_error_page(person.sign_in(), 403)
        link = page.find("a", href="/auth/sign-in?prompt=select_account")
        assert link is not None
        location = person.get(str(link["href"])).headers["Location"]
        assert parse_qs(urlsplit(location).query)["prompt"] == ["select_account"]


@pytest.mark.parametrize("query", [CONSENT, f"{CONSENT}&state=12345&scope=openid%20profile"])
def test_consent_leads_to_a_page_with_sign_in(person: Person, query: str) -> None:
    for heading, language, words in (
        ("Consent given", "en", "People whose organisation has access"),
        ("Consentement donné", "fr", "Les personnes dont"),
    ):
        for _ in ("signed out", "signed in"):
            person.http.headers["Accept-Language"] = language
            page = read_page(person, f"/auth/callback?{query}")
            assert page.h1 is not None
            assert page.h1.get_text() == heading
            assert words in page.get_text()
            assert page.find("a", href="/auth/sign-in") is not None
            person.signed_in()
        person.http.cookies.clear()


def test_refused_consent_is_a_failed_sign_in(service: Service, person: Person) -> None:
    refusals = ["error=access_denied&error_subcode=cancel&admin_consent=True", "admin_consent=False"]
    refusals += [f"error=permission_denied&state=1&{CONSENT}", f"admin_consent=True&{NUMBERED}"]
    refusals += ["error=permission_denied&error_description=The+admin+canceled+the+request"]
    for query in refusals:
        response = person.get(f"/auth/callback?{query}")
        page = assert_error_page(response, 400)
        assert "No consent was given" in page.get_text()
        event = read_event(service, response, "authn_login_fail")
        assert event["reason"] == "admin-consent"
        assert (NUMBERED in query) is ("aadsts" in event) is ("entra_trace_id" in event)
    assert_error_page(person.get(f"/auth/callback?{CONSENT}&admin_consent=True"), 400)


def test_consent_beside_a_code_is_a_sign_in(person: Person) -> None:
    assert person.finish_sign_in(f"{person.start_sign_in()}&{CONSENT}").headers["Location"] == "/"


def test_reloaded_callback_leads_a_user_home(person: Person) -> None:
    callback = person.start_sign_in("/account")
    assert person.finish_sign_in(callback).headers["Location"] == "/account"
    session = person.http.cookies[SESSION]
    for _ in range(2):
        response = person.finish_sign_in(callback)
        assert (response.status_code, response.headers["Location"]) == (302, "/")
        assert read_cookies(response) == {}
    for other in (f"{callback}x", person.cancel_sign_in(), callback.partition("?")[0]):
        assert_error_page(person.finish_sign_in(other), 400)
    assert person.http.cookies[SESSION] == session
    person.sign_out()
    assert_error_page(person.finish_sign_in(callback), 400)


def test_foreign_cookies_disturb_no_session(person: Person) -> None:
    for name, value in FOREIGN.items():
        person.http.cookies.set(name, value, domain="localhost.local", path="/")
    person.signed_in()
    for name, value in FOREIGN.items():  # the other program responds again
        person.http.cookies.set(name, value, domain="localhost.local", path="/")
    csrf = person.csrf_headers()
    assert person.token(csrf=csrf).status_code == 200
    assert person.sign_out().status_code == 303
    assert set(FOREIGN) <= {cookie.name for cookie in person.http.cookies}
    assert not person.is_signed_in()
