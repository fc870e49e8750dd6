"""The service as an Azure Function: as under gunicorn, through the library's real adapter and converters."""

import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import requests
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.admin_client import ROLE
from tests.support.azure_control import CALL_SECONDS
from tests.support.concurrency import wait_until
from tests.support.jobs import JobAdmin
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.routes import list_routes
from tests.support.rows import age_session, get_session
from tests.support.seed import seed_users
from tests.support.service import ROOT, Service

CASES = [
    *(
        ("GET", path)
        for path in ("/healthz", "/", "/nowhere", "/%C3%A9", "/api/me", "/api/nowhere", "/admin/users")
    ),
    *(
        ("GET", path)
        for path in ("/static/site.css", "/openapi.json", "/auth/callback", "/auth/callback?state=x")
    ),
    *(("HEAD", path) for path in ("/", "/healthz", "/nowhere", "/openapi.json")),
    *(("OPTIONS", "/api/token"), ("DELETE", "/healthz"), ("PUT", "/"), ("PATCH", "/api/token")),
    *(("POST", "/api/token"), ("POST", "/auth/sign-out")),
]
OF_EACH_RESPONSE = ("Date", "Connection", "X-Request-Id", "Content-Security-Policy", "Transfer-Encoding")
RESERVED = re.compile(r"/(admin/(functions|host|instance|pod|vfs|zip|extensions|warmup)|runtime)(/|$)")
"""The host's own paths, which come before those of functions."""


@pytest.fixture(scope="module")
def root(function_app: Service, new_person: Callable[..., Person]) -> Person:
    return new_person(at=function_app, roles=[ROLE], name="Root").signed_in()


def test_host_sends_no_log_lines() -> None:
    """It would send the service's standard error, which has addresses and reasons of blocks."""
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert host["logging"]["logLevel"] == {"Host.Function.Console": "None"}


def send(at: Service, method: str, path: str, headers: dict[str, str], body: bytes) -> requests.Response:
    url = f"{at.url}{path}"
    return requests.request(
        method, url, headers=headers, data=body, allow_redirects=False, timeout=CALL_SECONDS
    )


def describe(response: requests.Response) -> tuple[int, dict[str, str], str]:
    """Return what two responses to equal requests have in common."""
    headers = {name.title(): value for name, value in response.headers.items()}
    kept = {name: value for name, value in headers.items() if name not in OF_EACH_RESPONSE}
    kept["Allow"] = str(sorted(kept.get("Allow", "").split(", ")))
    return response.status_code, kept, re.sub(r'[0-9a-f]{32}|nonce="[^"]*"|localhost:\d+', "*", response.text)


@pytest.mark.parametrize(("method", "path"), CASES)
def test_responses_equal_those_of_gunicorn(
    service: Service, function_app: Service, method: str, path: str
) -> None:
    for body in (b"", b"{", b"x" * 17_000)[: 3 if method == "POST" else 1]:
        headers = {"Content-Type": "application/json"} if body else {}
        ours, gunicorns = (send(at, method, path, headers, body) for at in (function_app, service))
        assert describe(ours) == describe(gunicorns)


def test_sign_in_leads_to_token_and_page(function_app: Service, root: Person, azure: LocalAzure) -> None:
    response = root.sign_in("/admin/users?q=x")
    assert (response.status_code, response.headers["Location"]) == (302, "/admin/users?q=x")
    cookies = response.raw.headers.getlist("Set-Cookie")
    assert len(cookies) == 2, "the session begins, and the state of the sign-in ends"
    assert all({"path=/", "httponly", "samesite=lax"} <= {*cookie.split("; ")} for cookie in cookies)
    assert azure.check_token(root.get_token())
    assert root.get("/admin/users").status_code == 200
    assert root.sign_out().status_code == 303
    assert not root.is_signed_in()
    root.signed_in()


def test_upstream_failure_is_a_problem(azure: LocalAzure, root: Person) -> None:
    azure.plant_fault("acs", "create", "status", status=503)
    azure.plant_fault("acs", "issue", "status", status=503)
    response = root.token()
    assert_problem(response, 503, "upstream_unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_uses_are_recorded_after_response(root: Person, tables: TableServiceClient) -> None:
    age_session(tables, root, "SeenAt", timedelta(minutes=30))
    before = get_session(tables, root)["SeenAt"]
    assert root.is_signed_in()
    wait_until(lambda: get_session(tables, root)["SeenAt"] > before, seconds=10)


def test_timer_waits_for_jobs(root: Person) -> None:
    admin = JobAdmin(root)
    users = admin.new_users(3)
    path = admin.draft(admin.upload("block", "\n".join(user.user_id.object_id for user in users)))
    admin.start(path)
    assert root.post("/admin/functions/work").status_code == 202
    assert admin.status(path)["state"] == "done"
    assert all(admin.find(user)["Blocked"] for user in users)


def test_long_file_arrives_whole(root: Person, azure: LocalAzure) -> None:
    users = seed_users(azure.env, 300)
    lines = root.get("/admin/users.csv").content.decode("utf-8-sig").splitlines()
    assert {user.user_id.object_id for user in users} <= {line.split(",")[1] for line in lines}


def test_client_address_is_the_front_ends(function_app: Service, root: Person) -> None:
    request_id = root.get("/api/me", headers={"X-Forwarded-For": "198.51.100.9"}).headers["X-Request-ID"]
    lines = [line for line in function_app.log().splitlines() if request_id in line]
    assert all('"client": "203.0.113.7"' in line for line in lines)
    assert lines


def test_missing_proxy_hops_are_warned_of(function_app: Service, settings: dict[str, str]) -> None:
    with type(function_app)(settings) as alone:
        assert "TRUSTED_PROXY_HOPS is 0" in alone.log()
    assert "TRUSTED_PROXY_HOPS is 0" not in function_app.log()


def test_host_keeps_none_of_our_paths(application: Flask) -> None:
    assert not [route.path for route in list_routes(application) if RESERVED.match(route.path)]
