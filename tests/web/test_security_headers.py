"""Security headers: on every response, including errors and redirects."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from bs4 import BeautifulSoup
from flask import Flask, url_for

from tests.support.gate import TlsFront
from tests.support.person import Person
from tests.support.routes import Route, list_routes
from tests.support.service import ROOT, Service
from tools.node import NODE
from trusted_service.web.http import static_files

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FILES = {"bootstrap.min.css", "site.css", "icon.svg", "theme.js", "token.js"}
"""The files of pages that are there without a job."""
ERRORS = [
    *(Route(path, "GET") for path in ("/nothing", "/api/nothing", "/static/nothing", "/static/../wsgi.py")),
    *(Route(path, "DELETE") for path in ("/healthz", "/", "/static/site.css", "/api/token")),
    *(Route("/auth/callback?" + query, "GET") for query in ("state=x", "error=x", "code=1&code=2")),
]
OBSERVATORY = Path(__file__).parents[1] / "observatory" / "node_modules" / "@mdn" / "mdn-http-observatory"
"""MDN HTTP Observatory's own scan, unchanged: https://github.com/mdn/mdn-http-observatory."""


@pytest.fixture(scope="module")
def front(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsFront]:
    """The service as browsers reach it over HTTPS.

    There is no plain HTTP: on App Service, "HTTPS Only" redirects before a request reaches us.
    """
    with TlsFront(tmp_path_factory.mktemp("front")) as running:
        service = Service(settings | {"PUBLIC_URL": running.url, "TRUSTED_PROXY_HOPS": "1"})
        running.target = service.port
        with service:
            yield running


def assert_headers(route: Route, response: requests.Response) -> None:
    """Check the headers of a response to this route."""
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS, route
    policy = response.headers["Content-Security-Policy"]
    for directive in ("default-src 'none'", "base-uri 'none'", "object-src 'none'"):
        assert directive in policy
    assert "unsafe" not in policy
    is_page = response.headers.get("Content-Type", "").startswith("text/html")
    assert policy.endswith("; sandbox") is not is_page, route
    assert "camera=()" in response.headers["Permissions-Policy"]
    if route.path != "/auth/front-channel-logout":
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Frame-Options"] == "DENY"
    assert not {"Server", "X-Powered-By"} & set(response.headers)
    assert response.headers["X-Request-ID"].isalnum()
    is_file = "/static/" in route.path and response.status_code < 400
    assert ("no-store" in response.headers.get("Cache-Control", "")) == (not is_file), route


@pytest.mark.parametrize("roles", [None, [], ["TrustedService.Admin"]], ids=["anonymous", "member", "admin"])
def test_every_response_carries_security_headers(
    application: Flask, new_person: Callable[..., Person], roles: list[str] | None
) -> None:
    person = new_person() if roles is None else new_person(roles=roles).signed_in()
    for route in [*list_routes(application), *ERRORS]:
        response = route.call(person)
        assert response.status_code < 500, route
        assert_headers(route, response)


def test_files_are_kept_under_their_hash(
    service: Service, new_person: Callable[..., Person], application: Flask
) -> None:
    """Each page names each file by its content's hash; any other URL is asked for again each time."""
    admin, urls = new_person(roles=["TrustedService.Admin"]).signed_in(), set()
    for route in [*list_routes(application), *ERRORS]:
        if route.method == "GET" and not route.is_api:
            page = BeautifulSoup(route.call(admin).text, "html.parser")
            tags = page.select("script[src], link[href]:not([rel=canonical])")
            urls |= {str(tag.get("src") or tag.get("href")) for tag in tags}
    assert {url.partition("?")[0].rpartition("/")[2] for url in urls} >= FILES
    for url in urls:
        found = requests.get(service.url + url, timeout=10)
        path, _, version = url.partition("?v=")
        assert version == hashlib.sha256(found.content).hexdigest()[:16], url
        assert found.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        again = requests.get(service.url + url, headers={"If-None-Match": found.headers["ETag"]}, timeout=10)
        assert (again.status_code, again.headers["Cache-Control"]) == (304, found.headers["Cache-Control"])
        for other in (
            "",
            "?v=",
            f"?v={version[:-1]}",
            f"?v={version}0",
            f"?w={version}",
            f"?v=x&v={version}",
        ):
            current = requests.get(service.url + path + other, timeout=10)
            assert current.content == found.content
            assert current.headers["Cache-Control"] == "no-cache, max-age=0"
    missing = requests.get(f"{service.url}/static/nothing.js?v={version}", timeout=10)
    assert (missing.status_code, missing.headers["Cache-Control"]) == (404, "no-store")


def test_no_file_names_another_without_hash() -> None:
    reference = re.compile(r"""\bimport\s*[({'*\w]|\bfrom\s*["']|@import|url\((?!["']?data:)|/static/""")
    for folder in (ROOT / "trusted_service" / "static", ROOT / "templates"):
        for path in folder.rglob("*.*"):
            text = re.sub("(?s){[{%].*?[%}]}", "", path.read_text(encoding="utf-8"))
            assert path.name == "snippet.js" or not reference.search(text), path


def test_changed_file_gets_another_url(tmp_path: Path) -> None:
    """A deployment that changes a file gives it another URL; the former one is no longer kept."""
    urls, file = [], tmp_path / "page.js"
    for version in range(2):
        file.write_text(f"let version = {version};", encoding="ascii")
        app = Flask("deployed", static_folder=str(tmp_path))
        static_files.init_app(app)
        with app.test_request_context():
            urls.append(url_for("static", filename="page.js"))
    kept = []
    for url in urls:
        with app.test_client().get(url) as response:
            kept.append(response.headers["Cache-Control"])
    assert kept == ["no-cache, max-age=0", static_files.FOR_A_YEAR]


def test_https_responses_have_hsts(service: Service, front: TlsFront) -> None:
    assert "Strict-Transport-Security" not in requests.get(service.url, timeout=10).headers
    for path in ("/", "/nothing", "/api/me", "/static/site.css", "/healthz", "/auth/sign-in"):
        url = front.url + path
        response = requests.get(url, verify=str(front.ca_path), allow_redirects=False, timeout=30)
        expected = "max-age=63072000; includeSubDomains"
        assert response.headers["Strict-Transport-Security"] == expected, path
    assert response.headers["Set-Cookie"].startswith("__Host-sign-in-")
    assert "; Secure" in response.headers["Set-Cookie"]


def test_home_is_graded_a_plus(front: TlsFront) -> None:
    # Without this file the scan downloads the HSTS preload list; a missing entry costs no points.
    (OBSERVATORY / "conf" / "hsts-preload.json").write_text("{}")
    completed = subprocess.run(
        [NODE, "src/scan.js", front.url.removeprefix("https://")],
        cwd=OBSERVATORY,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(front.ca_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    document = json.loads(completed.stdout)
    assert completed.returncode == 0, document
    verdict = {name: (test["pass"], test["result"]) for name, test in document["tests"].items()}
    scan = document["scan"]
    assert (scan["grade"], scan["testsFailed"], scan["statusCode"]) == ("A+", 0, 200), verdict
