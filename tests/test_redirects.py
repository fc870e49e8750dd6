"""Where redirects lead, read as a browser reads them: nowhere off this site but to Entra ID."""

from urllib.parse import quote

import pytest
import requests
from flask import Flask

from tests.support.browser_urls import Destination, resolve
from tests.support.flows import read_flow
from tests.support.hostile_paths import SITE, hostile_paths
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.raw_http import send_lines
from tests.support.routes import list_routes
from tests.support.service import Service
from trusted_service.web.next_path import next_path

BASE = f"{SITE}/auth/callback"
OVER_HTTP = 300
NO_PAGES = ("/auth/", "/api/", "/static/", "/bootstrap/", "/healthz", "/readyz", "/openapi.json")
DRESSES = ("/{}", "//{}", "/\\{}", "/./{}", "/{}/", "/{}//evil.example", "/{}?next=//evil.example", "/{};x")


def as_hostile(texts: list[str]) -> list[str]:
    """Those that lead a browser on our callback page off our site, or to no page of ours."""
    return [text for text, found in zip(texts, resolve(texts, BASE), strict=True) if not is_page(found)]


def is_page(found: Destination | None) -> bool:
    return found is not None and found.origin == SITE and not found.path.startswith(NO_PAGES)


def browsers_only(texts: list[str]) -> list[str]:
    """Those that can be told to a browser at all: lone surrogates cannot."""
    return [text for text in texts if text.encode("utf-8", "replace").decode() == text]


@pytest.fixture(scope="module")
def hostile() -> list[str]:
    """Spellings that work: a browser that was sent there would be led astray."""
    return as_hostile(browsers_only(list(dict.fromkeys(hostile_paths()))))


def test_grammar_has_enough_spellings_that_would_lead_a_browser_off(hostile: list[str]) -> None:
    off_site = [found for found in resolve(hostile, BASE) if found is not None and found.origin != SITE]
    assert len(off_site) >= 300
    assert len({found.scheme for found in off_site}) > 5


def test_no_spelling_of_next_leads_a_browser_off(application: Flask, hostile: list[str]) -> None:
    with application.app_context():
        ends = [next_path([text]) for text in hostile]
    assert as_hostile(ends) == []


def test_no_spelling_of_next_gets_into_a_sign_in(service: Service, hostile: list[str]) -> None:
    # Each stands for many of its kind; what is kept here is where the callback leads.
    chosen = [text for text in hostile[:: max(1, len(hostile) // OVER_HTTP)] if len(text) < 2000]
    assert len(chosen) >= OVER_HTTP
    kept = []
    with requests.Session() as browser:
        for text in chosen:
            url = f"{service.url}/auth/sign-in?next={quote(text, safe='', errors='replace')}"
            answer = browser.get(url, allow_redirects=False, timeout=30)
            assert answer.status_code == 302
            (cookie,) = (value for name, value in answer.cookies.items() if name.startswith("sign-in-"))
            kept.append(str(read_flow(service, cookie)["next"]))
            browser.cookies.clear()
    assert as_hostile(kept) == []


def test_sign_out_comes_back_to_where_the_settings_say(
    azure: LocalAzure, service: Service, signed_in: Person
) -> None:
    evil = "https://evil.example/"
    names = ("next", "post_logout_redirect_uri", "redirect_uri", "returnTo", "url")
    form = {"csrf_token": signed_in.me()["csrfToken"]} | dict.fromkeys(names, evil)
    query = "&".join(f"{name}={evil}" for name in names)
    answer = signed_in.post(
        f"/auth/sign-out?{query}", data=form, headers={"X-Forwarded-Host": "evil.example"}
    )
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(azure.get_app().page_origin)
    assert "evil" not in answer.headers["Location"]
    assert quote(f"{service.url}/", safe="") in answer.headers["Location"]


def test_redirects_of_all_routes_stay_on_this_site(
    application: Flask, service: Service, regular: Person
) -> None:
    locations = set()
    session = f"Cookie: session={regular.http.cookies['session']}"
    for path in {route.path for route in list_routes(application)} - {"/auth/sign-in", "/auth/teams"}:
        for dress in DRESSES:
            target = dress.format(path[1:])
            for request_line, cookie in (
                (f"GET {target} HTTP/1.1", session),
                (f"GET {target} HTTP/1.1", "X-Nothing: x"),
                (f"POST {target} HTTP/1.1", "X-Nothing: x"),
            ):
                spoofed = ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: ftp", cookie)
                answer = send_lines(service.url, request_line, *spoofed, host="evil.example")
                assert answer.status < 500, request_line
                locations.add(answer.headers.get("Location", "/"))
    assert len(locations) > 10
    origins = {found.origin for found in resolve(list(locations), f"{SITE}/x") if found is not None}
    assert origins == {SITE}
