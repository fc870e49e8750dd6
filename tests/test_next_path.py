"""Where a sign-in ends: on a page of ours, whatever stands in `next`."""

import re
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hostile_paths import SITE, hostile_paths
from tests.support.person import Person
from trusted_service.web.next_path import next_path

GUID = "a11ce000-4b1d-4c7e-8f00-000000000001"
NO_PAGES = ("/auth/", "/api/", "/static/", "/bootstrap/", "/healthz", "/readyz", "/openapi.json")

FOR_HTTP = (
    *("//attacker.example", "/\\attacker.example", "/\t/attacker.example", "/%09/attacker.example"),
    *("https:attacker.example", "https://attacker.example/", "javascript:alert(1)", "//x:1@attacker.example"),
    *("/\r\nSet-Cookie: session=x", "/?x=\r\nSet-Cookie: session=x", "/..//attacker.example"),
    *("/auth/sign-out", "/auth/sign-in", "/auth/callback", "/api/me", "/static/site.css", f"/?{'x' * 4000}"),
)


def list_paths(application: Flask, *, of_pages: bool) -> list[str]:
    """Return a path for each route that answers GET: those of pages, or all others."""
    urls = application.url_map.bind("")
    paths = []
    for rule in application.url_map.iter_rules():
        values = {name: "block" if name == "action" else GUID for name in rule.arguments}
        path = urls.build(rule.endpoint, values, method="GET") if "GET" in (rule.methods or ()) else None
        if path is not None and path.startswith(NO_PAGES) != of_pages:
            paths.append(path)
    return paths


def ends_at(application: Flask, *values: str) -> str:
    with application.app_context():
        return next_path(values)


def test_next_that_is_hostile_ends_at_home(application: Flask) -> None:
    cases = list(hostile_paths())
    assert len(set(cases)) >= 2000
    ends = {case: ends_at(application, case) for case in cases}
    assert {case: end for case, end in ends.items() if end != "/"} == {}


def test_next_that_is_no_page_ends_at_home(application: Flask) -> None:
    paths = list_paths(application, of_pages=False)
    assert {"/auth/sign-in", "/auth/callback", "/api/me", "/healthz"} <= set(paths)
    for path in paths:
        assert ends_at(application, path) == "/"
        assert ends_at(application, f"{path}?x=1") == "/"


def test_next_that_is_a_page_is_kept(application: Flask) -> None:
    paths = list_paths(application, of_pages=True)
    assert "/" in paths
    assert "/admin/users" in paths
    for path in paths:
        for query in ("", "?x=1", "?x=1&x=2&y=", "?q=a%20b%26c&status=blocked&cursor=eyJ%3D%3D"):
            kept = urlsplit(ends_at(application, f"{path}{query}"))
            assert (kept.scheme, kept.netloc, kept.path, kept.fragment) == ("", "", path, "")
            pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True)
            assert parse_qsl(kept.query, keep_blank_values=True) == pairs


@pytest.mark.parametrize("values", [(), ("/", "/"), ("/?x=1", "/?x=1"), ("/?x=1", "//attacker.example")])
def test_next_that_is_missing_or_given_twice_ends_at_home(
    application: Flask, values: tuple[str, ...]
) -> None:
    assert ends_at(application, *values) == "/"


def test_query_cannot_leave_its_place(application: Flask) -> None:
    for query in (
        "x=//attacker.example",
        "next=//attacker.example",
        "x=%0d%0aSet-Cookie:a=b",
        "x=é&y=\\",
        "x#//y",
    ):
        end = ends_at(application, f"/?{query}")
        assert end.startswith("/?")
        assert re.fullmatch(r"/\?[A-Za-z0-9_.~%+&=-]*", end)


@given(st.text(st.sampled_from("/\\.:?#@&=%;\t\r\n\x00 aAdmin25fFcC09éⓐ\u2028\ud800"), max_size=40))
def test_next_of_any_text_stays_on_this_site(application: Flask, text: str) -> None:
    for value in (text, f"/{text}", f"/?{text}"):
        end = ends_at(application, value)
        assert re.fullmatch(r"/[A-Za-z0-9_./-]*(\?[A-Za-z0-9_.~%+&=*-]*)?", end)
        assert not end.startswith(("//", "/\\"))
        assert urlsplit(urljoin(f"{SITE}/auth/callback", end)).netloc == urlsplit(SITE).netloc


@pytest.mark.parametrize("value", FOR_HTTP)
def test_sign_in_with_a_hostile_next_ends_at_home(person: Person, value: str) -> None:
    answer = person.sign_in(value)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert len(answer.raw.headers.getlist("Location")) == 1
    assert "attacker" not in str(answer.headers)


def test_sign_in_with_next_given_twice_ends_at_home(person: Person) -> None:
    query = "next=/?x=1&next=//attacker.example"
    location = person.get(f"/auth/sign-in?{query}").headers["Location"]
    callback = person.azure.sign_in(person.http, location, person.account.username)
    assert person.finish_sign_in(callback).headers["Location"] == "/"


def test_page_of_a_signed_out_browser_comes_back_to_itself(application: Flask, person: Person) -> None:
    for page in list_paths(application, of_pages=True):
        path = f"{page}?q=a+b&x="
        answer = person.get(path)
        if answer.status_code == 200:
            continue  # a page for everybody
        assert answer.status_code == 302
        assert urlsplit(answer.headers["Location"]).path == "/auth/sign-in"
        to_entra = person.get(answer.headers["Location"]).headers["Location"]
        callback = person.azure.sign_in(person.http, to_entra, person.account.username)
        assert person.finish_sign_in(callback).headers["Location"] == path
        person.http.cookies.clear()
