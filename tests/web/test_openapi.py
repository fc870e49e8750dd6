"""OpenAPI description: exactly the API's routes, the limits from the settings, examples; and its page."""

import json
import re

import pytest
import requests
from bs4 import BeautifulSoup
from flask import Flask

from tests.support.openapi import Document, list_codes, list_operations, resolve, validate
from tests.support.service import Service
from tests.support.settings import REQUIRED
from trusted_service import errors
from trusted_service.app import create_app
from trusted_service.settings import Settings
from trusted_service.web.http.error_handlers import ERRORS
from trusted_service.web.http.problems import PROBLEMS

PUBLIC = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json")}
CODES = {
    400: {"invalid_request"},
    401: {"not_signed_in", "invalid_token"},
    403: {"csrf_failed", "blocked", "insufficient_scope", "forbidden"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    409: {"conflict"},
    413: {"too_large"},
    415: {"unsupported_media_type"},
    429: {"rate_limited"},
    500: {"internal_error"},
    503: {"upstream_throttled", "upstream_unavailable"},
}
"""The error codes of the contract, by status."""


@pytest.fixture(scope="module")
def document(service: Service) -> Document:
    response = requests.get(f"{service.url}/openapi.json", timeout=10)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert "Set-Cookie" not in response.headers
    return dict(response.json())


def test_description_is_openapi_3_1(document: Document) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"]
    assert list_codes(document) == CODES
    names = [operation["operationId"] for _, _, operation in list_operations(document)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for _, _, operation in list_operations(document))


def test_description_has_exactly_the_api_routes(document: Document, application: Flask) -> None:
    routes = {
        (method, re.sub("<uuid:(tenant|object)_id>", r"{\1Id}", rule.rule))
        for rule in application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }
    assert {(method, path) for method, path, _ in list_operations(document)} - PUBLIC == routes


def test_description_follows_the_settings() -> None:
    changed = {"TOKEN_SCOPES": "voip.join", "TOKEN_LIFETIME_MINUTES": "90"}
    client = create_app(Settings.from_env(REQUIRED | changed)).test_client()
    document = client.get("/openapi.json").get_json()
    request = document["components"]["schemas"]["TokenRequest"]["properties"]
    assert request["scopes"]["items"] == {"type": "string", "const": "voip.join"}
    assert (request["expiresInMinutes"]["minimum"], request["expiresInMinutes"]["maximum"]) == (60, 90)
    assert document["servers"] == [{"url": REQUIRED["PUBLIC_URL"]}]
    assert document["components"]["securitySchemes"]["session"]["name"] == "__Host-session"


def test_every_error_has_a_code() -> None:
    internal = {errors.UpstreamError, errors.IdentityNotFound, errors.Conflict}
    every = errors.TrustedServiceError.__subclasses__() + errors.SignInFailed.__subclasses__()
    domain = {error for error in every if error.__module__ == errors.__name__}
    assert domain - internal == set(ERRORS)
    assert all(code in PROBLEMS for code, _, _ in ERRORS.values())


def test_every_status_has_valid_examples(document: Document) -> None:
    seen = set()
    for method, path, operation in list_operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for holder in (*operation["responses"].values(), *bodies):
            described = resolve(document, holder)
            if described.get("description") == "No Content":
                assert "content" not in described
                continue
            (media,) = described["content"].values()
            assert media["examples"], (method, path)
            for example in media["examples"].values():
                validate(document, media, example["value"])
                seen.add(json.dumps(example["value"]))
    assert len(seen) > 20


def test_unsafe_operations_require_csrf_or_bearer(document: Document) -> None:
    for method, path, operation in list_operations(document):
        session = {"session"} if method == "GET" else {"session", "csrf"}
        expected = [] if (method, path) in PUBLIC else [{"bearer"}, session]
        assert [set(scheme) for scheme in operation["security"]] == expected


def test_page_shows_every_operation_status_and_schema(document: Document, service: Service) -> None:
    home = BeautifulSoup(requests.get(service.url, timeout=10).text, "html.parser")
    assert home.find("a", href="/docs") is not None
    response = requests.get(f"{service.url}/docs", timeout=10)
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    page = BeautifulSoup(response.text, "html.parser")
    ids = {str(tag["id"]) for tag in page.find_all(id=True)}
    for _, path, operation in list_operations(document):
        section = page.find(id=operation["operationId"])
        assert section is not None
        assert path in section.text
        assert all(status in section.text for status in operation["responses"])
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= ids
    assert {str(link["href"])[1:] for link in page.find_all("a", href=re.compile("^#"))} <= ids
