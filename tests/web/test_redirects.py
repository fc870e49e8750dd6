"""Redirects, after sign-in and elsewhere: always within this site, whatever the request contains."""

import re
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cookies import SESSION
from tests.support.hostile_paths import SITE, hostile_paths
from tests.support.node import list_origins
from tests.support.person import Person
from tests.support.raw_http import send_lines
from tests.support.routes import list_routes
from trusted_service.web.security.sign_in_state import next_path

NON_PAGES = ("/auth/", "/api/", "/static/", "/bootstrap/", "/healthz", "/readyz", "/openapi.json")
HOSTILE_NEXT = (
    *("//attacker.example", "/\\attacker.example", "/\t/attacker.example", "/%09/attacker.example"),
    *("https:attacker.example", "https://attacker.example/", "javascript:alert(1)", "//x:1@attacker.example"),
    *("/\r\nSet-Cookie: session=x", "/?x=\r\nSet-Cookie: session=x", "/..//attacker.example"),
    *("/auth/sign-out", "/auth/sign-in", "/auth/callback", "/api/me", "/static/site.css", f"/?{'x' * 4000}"),
)
FORMS = ("/{}", "//{}", "/\\{}", "/./{}", "/{}/", "/{}//evil.example", "/{}?next=//evil.example", "/{};x")


def list_paths(application: Flask, *, of_pages: bool) -> set[str]:
    """Return a path for each GET route: those of pages, or all others."""
    paths = {route.path for route in list_routes(application) if route.method == "GET"}
    return {path for path in paths if path.startswith(NON_PAGES) != of_pages}


def ends_at(application: Flask, *values: str) -> str:
    with application.app_context():
        return next_path(values)


def test_next_outside_pages_leads_home(application: Flask) -> None:
    paths = list_paths(application, of_pages=False)
    assert {"/auth/sign-in", "/auth/callback", "/api/me", "/healthz"} <= paths
    for path in paths:
        assert ends_at(application, path) == ends_at(application, f"{path}?x=1") == "/"


def test_next_to_a_page_is_kept(application: Flask) -> None:
    paths = list_paths(application, of_pages=True)
    assert {"/", "/admin/users"} <= paths
    for path in paths:
        for query in ("", "?x=1", "?x=1&x=2&y=", "?q=a%20b%26c&status=blocked&cursor=eyJ%3D%3D"):
            kept = urlsplit(ends_at(application, f"{path}{query}"))
            assert (kept.scheme, kept.netloc, kept.path, kept.fragment) == ("", "", path, "")
            pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True)
            assert parse_qsl(kept.query, keep_blank_values=True) == pairs


@pytest.mark.parametrize("values", [(), ("/", "/"), ("/?x=1", "/?x=1"), ("/?x=1", "//attacker.example")])
def test_missing_or_repeated_next_leads_home(application: Flask, values: tuple[str, ...]) -> None:
    assert ends_at(application, *values) == "/"


@given(st.text(st.sampled_from("/\\.:?#@&=%;\t\r\n\x00 aAdmin25fFcC09éⓐ\u2028\ud800"), max_size=40))
def test_any_next_stays_on_this_site(application: Flask, text: str) -> None:
    for value in (text, f"/{text}", f"/?{text}"):
        end = ends_at(application, value)
        assert re.fullmatch(r"/[A-Za-z0-9_./-]*(\?[A-Za-z0-9_.~%+&=*-]*)?", end)
        assert not end.startswith(("//", "/\\"))
        assert urlsplit(urljoin(f"{SITE}/auth/callback", end)).netloc == urlsplit(SITE).netloc


@pytest.mark.parametrize("value", HOSTILE_NEXT)
def test_sign_in_with_hostile_next_leads_home(person: Person, value: str) -> None:
    response = person.sign_in(value)
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    assert len(response.raw.headers.getlist("Location")) == 1
    assert "attacker" not in str(response.headers)


def test_sign_in_returns_to_requested_page(application: Flask, person: Person) -> None:
    for page in list_paths(application, of_pages=True):
        path = f"{page}?q=a+b&x="
        response = person.get(path)
        if response.status_code == 200:
            continue  # a public page
        assert response.status_code == 302
        assert urlsplit(response.headers["Location"]).path == "/auth/sign-in"
        to_entra = person.get(response.headers["Location"]).headers["Location"]
        callback = person.azure.sign_in(person.http, to_entra, person.account.username)
        assert person.finish_sign_in(callback).headers["Location"] == path
        person.http.cookies.clear()


def test_no_next_leads_a_browser_off_site(application: Flask) -> None:
    texts = list(dict.fromkeys(hostile_paths()))
    # Lone surrogates cannot be sent to the browser.
    sendable = [text for text in texts if text.encode("utf-8", "replace").decode() == text]
    origins = list_origins(sendable, f"{SITE}/auth/callback")
    assert len([origin for origin in origins if origin != SITE]) >= 300
    with application.app_context():
        assert {text: next_path([text]) for text in texts} == dict.fromkeys(texts, "/")


def test_redirects_of_all_routes_stay_on_this_site(application: Flask, shared_user: Person) -> None:
    locations = set()
    session, none = f"Cookie: {SESSION}={shared_user.http.cookies[SESSION]}", "X-Nothing: x"
    for path in {route.path for route in list_routes(application)} - {"/auth/sign-in", "/auth/teams"}:
        for form in FORMS:
            for method, cookie in (("GET", session), ("GET", none), ("POST", none)):
                request_line = f"{method} {form.format(path[1:])} HTTP/1.1"
                spoofed = ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: ftp", cookie)
                response = send_lines(shared_user.url, request_line, *spoofed, host="evil.example")
                assert response.status < 500, request_line
                locations.add(response.headers.get("Location", "/"))
    assert len(locations) > 10
    assert set(list_origins(list(locations), f"{SITE}/x")) == {SITE}
