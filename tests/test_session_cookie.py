"""The session's cookie: how it is set, and that nothing but the very one we made is believed."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.cookies import SetCookie, read_cookies, send_cookies
from tests.support.flows import flow_cookies
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service

ABSOLUTE_SECONDS = 480 * 60
HTTPS_URL = "https://localhost:8443"
PREFIX = "__Host-"

Cookies = dict[str, SetCookie]


@pytest.fixture(scope="module")
def https_service(settings: dict[str, str]) -> Iterator[Service]:
    """An instance that browsers reach over https, through something that ends TLS in front of it."""
    with Service(settings | {"PUBLIC_URL": HTTPS_URL}) as running:
        yield running


def as_header(cookies: Cookies) -> str:
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies.values())


def sign_in_over_https(azure: LocalAzure, service: Service) -> tuple[Cookies, Cookies]:
    """Sign alice in as the proxy in front would pass it on; return the cookies of both answers."""
    start = send_cookies(f"{service.url}/auth/sign-in", "")
    flow = read_cookies(start)
    with azure.make_session() as browser:
        callback = azure.sign_in(browser, start.headers["Location"], "alice@contoso.example")
    assert callback.startswith(f"{HTTPS_URL}/auth/callback?")
    end = send_cookies(callback.replace(HTTPS_URL, service.url), as_header(flow))
    assert (end.status_code, end.headers["Location"]) == (302, "/")
    return flow, read_cookies(end)


def assert_attributes(cookie: SetCookie, *, secure: bool) -> None:
    attributes = dict(cookie.attributes)
    assert attributes.pop("httponly", None) == ""
    assert attributes.pop("samesite") == "Lax"
    assert attributes.pop("path") == "/"
    assert (attributes.pop("secure", None) == "") is secure
    assert cookie.name.startswith(PREFIX) is secure
    assert set(attributes) == {"max-age", "expires"}


def test_cookies_over_http(person: Person) -> None:
    start = person.get("/auth/sign-in")
    (flow,) = read_cookies(start).values()
    assert_attributes(flow, secure=False)
    assert flow.attributes["max-age"] == "600"
    callback = person.azure.sign_in(person.http, start.headers["Location"], person.account.username)
    cookies = read_cookies(person.finish_sign_in(callback))
    assert set(cookies) == {"session", flow.name}
    for cookie in cookies.values():
        assert_attributes(cookie, secure=False)
    assert cookies["session"].attributes["max-age"] == str(ABSOLUTE_SECONDS)
    assert (cookies[flow.name].value, cookies[flow.name].attributes["max-age"]) == ("", "0")


def test_cookies_over_https(azure: LocalAzure, https_service: Service) -> None:
    before, after = sign_in_over_https(azure, https_service)
    (flow,) = before
    assert set(after) == {f"{PREFIX}session", flow}
    for cookie in (*before.values(), *after.values()):
        assert_attributes(cookie, secure=True)
    assert (after[flow].value, after[flow].attributes["max-age"]) == ("", "0")


def test_cookie_over_https_is_believed_by_its_full_name_only(
    azure: LocalAzure, https_service: Service
) -> None:
    _, cookies = sign_in_over_https(azure, https_service)
    value = cookies[f"{PREFIX}session"].value
    url = f"{https_service.url}/api/me"
    assert send_cookies(url, f"{PREFIX}session={value}").status_code == 200
    for name in ("session", "__Secure-session", "__host-session", "Session"):
        assert send_cookies(url, f"{name}={value}").status_code == 401


def test_only_sign_in_sets_a_session_cookie(service: Service, regular: Person) -> None:
    for path in ("/", "/api/me", "/healthz", "/static/site.css", "/nothing", "/auth/front-channel-logout"):
        assert read_cookies(send_cookies(f"{service.url}{path}", "")) == {}
        assert read_cookies(regular.get(path)) == {}


def flip(value: str, position: int) -> str:
    """The value with another hexadecimal digit at this position."""
    digit = "0" if value[position] != "0" else "1"
    return value[:position] + digit + value[position + 1 :]


FORGERIES: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda value: "session=",
    "no value": lambda value: "session",
    "garbage": lambda value: "session=garbage",
    "dots": lambda value: "session=....",
    "unsigned": lambda value: f"session={value.split('.')[0]}",
    "signature alone": lambda value: f"session=.{value.split('.')[1]}",
    "signature cut": lambda value: f"session={value[:-1]}",
    "cut": lambda value: f"session={value[: len(value) // 2]}",
    "id cut": lambda value: f"session={value[2:]}",
    "longer": lambda value: f"session={value}A",
    "signed twice": lambda value: f"session={value}.{value.split('.')[1]}",
    "another user's partition": lambda value: f"session={flip(value, 0)}",
    "another secret": lambda value: f"session={flip(value, 40)}",
    "upper case": lambda value: f"session={value.upper()}",
    "spaces in it": lambda value: f"session={value[:32]} {value[32:]}",
    "percent-encoded": lambda value: f"session={value.replace('.', '%2e')}",
    "oversized": lambda value: f"session={value}{'A' * 6000}",
    "null bytes, encoded": lambda value: f"session={value}%00",
    "not ASCII": lambda value: "session=é".encode(),
    "not UTF-8": lambda value: b"session=\xff\xfe",
    "full-width digits": lambda value: f"session=\uff11{value[1:]}".encode(),
    "backslash escapes": lambda value: f'session="\\141\\377{value}"',
    "another before it": lambda value: f"session=planted; session={value}",
    "another behind it": lambda value: f"session={value}; session=planted",
    "an empty one before it": lambda value: f"session=; session={value}",
}


@pytest.mark.parametrize("case", FORGERIES)
def test_cookie_that_is_not_ours_is_signed_out(service: Service, regular: Person, case: str) -> None:
    value = regular.http.cookies["session"]
    assert send_cookies(f"{service.url}/api/me", f"session={value}").status_code == 200
    header = FORGERIES[case](value)
    answer = send_cookies(f"{service.url}/api/me", header)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    page = send_cookies(f"{service.url}/", header)
    assert page.status_code == 200
    assert regular.account.object_id not in page.text
    assert send_cookies(f"{service.url}/auth/sign-in", header).status_code == 302
    assert_error_page(send_cookies(f"{service.url}/auth/callback?code=1&state=2", header), 400)


def test_cookie_header_beyond_all_limits_is_refused_plainly(service: Service) -> None:
    answer = send_cookies(f"{service.url}/api/me", f"session={'A' * 60_000}")
    assert answer.status_code in (400, 431)


def test_other_values_that_we_sign_are_no_session(service: Service, signed_in: Person) -> None:
    value = signed_in.http.cookies["session"]
    csrf = signed_in.me()["csrfToken"]
    signed_in.start_sign_in()
    (flow,) = flow_cookies(signed_in).values()
    for other in (
        flow,
        csrf,
        f"{value.split('.')[0]}.{csrf}",
        f"{value.split('.')[0]}.{flow.split('.')[-1]}",
    ):
        assert send_cookies(f"{service.url}/api/me", f"session={other}").status_code == 401


@pytest.mark.parametrize("end", ["", "é", "x y", "\x7f", '"', "%0d"])
def test_foreign_flow_cookies_do_no_harm(service: Service, end: str) -> None:
    junk = "; ".join(f"sign-in-{end}{number}=junk" for number in range(12)).encode()
    answer = send_cookies(f"{service.url}/auth/sign-in", junk)
    assert answer.status_code in (302, 400)  # 400: gunicorn takes no control characters
    assert send_cookies(f"{service.url}/", junk).status_code in (200, 400)
