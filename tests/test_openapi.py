"""The description of the API: the routes there are, no others, and what they really answer."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import requests
from bs4 import BeautifulSoup
from flask import Flask

from tests.support.service import Service
from tests.support.settings import REQUIRED
from trusted_service.config import Settings
from trusted_service.web import errors
from trusted_service.web.openapi.document import openapi_document
from trusted_service.web.openapi.problems import PROBLEMS

Document = dict[str, Any]

OTHERS = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json")}
PAGES_ONLY = {"sign_in_failed"}


@pytest.fixture(scope="module")
def document(service: Service) -> Document:
    answer = requests.get(f"{service.url}/openapi.json", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert "Set-Cookie" not in answer.headers
    found: Document = answer.json()
    return found


def list_operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), path, operation


def resolve(document: Document, node: Document) -> Document:
    while "$ref" in node:
        found: Any = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node = found
    return node


def test_description_is_openapi_3_1(document: Document) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"]
    names = [operation["operationId"] for _, _, operation in list_operations(document)]
    assert len(set(names)) == len(names)
    for _, _, operation in list_operations(document):
        assert operation["summary"]


def test_description_has_every_route_of_the_api_and_no_other(document: Document, application: Flask) -> None:
    described = {(method, path) for method, path, _ in list_operations(document)}

    def words(match: re.Match[str]) -> str:
        first, *others = match[1].split("_")
        return "{" + first + "".join(word.title() for word in others) + "}"

    there = {
        (method, re.sub(r"<\w+:(\w+)>", words, rule.rule))
        for rule in application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }
    assert described - OTHERS == there


def test_description_is_as_the_service_is_set_up() -> None:
    changed = {"TOKEN_SCOPES": "voip.join", "TOKEN_LIFETIME_MINUTES": "90"}
    document = openapi_document(Settings.from_env(REQUIRED | changed))
    request = document["components"]["schemas"]["TokenRequest"]["properties"]
    assert request["scopes"]["items"]["enum"] == ["voip.join"]
    assert request["expiresInMinutes"]["maximum"] == 90
    assert document["servers"] == [{"url": REQUIRED["PUBLIC_URL"]}]
    assert document["components"]["securitySchemes"]["session"]["name"] == "__Host-session"


def codes_in_errors() -> set[tuple[int, str]]:
    """Every status with its code that `trusted_service.web.errors` can answer, as its source has them."""
    tree = ast.parse(inspect.getsource(errors))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found: set[tuple[int, str]] = set()
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "Answer":
            status, code = call.args[:2]
            if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                found.add((int(str(status.value)), str(code.value)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple):
                    code = value.elts[0]
                    assert isinstance(code, ast.Constant)
                    found.add((int(str(key.value)), str(code.value)))
    assert "upstream_throttled" in inspect.getsource(errors._upstream_error)
    return found | {(503, "upstream_throttled"), (503, "upstream_unavailable"), (500, "internal_error")}


def test_every_code_is_described_and_no_other() -> None:
    described = {(int(status), code) for status, codes in PROBLEMS.items() for code in codes}
    assert {pair for pair in codes_in_errors() if pair[1] not in PAGES_ONLY} == described


def test_every_status_has_examples_that_fit_its_schema(document: Document) -> None:
    seen = set()
    for method, path, operation in list_operations(document):
        if path == "/openapi.json":
            continue
        holders = [resolve(document, response) for response in operation["responses"].values()]
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for holder in (*holders, *bodies):
            if holder.get("description") == "No Content":
                assert "content" not in holder
                continue
            (media,) = holder["content"].values()
            assert media["examples"], (method, path)
            schema = media["schema"] | {"components": document["components"]}
            for example in media["examples"].values():
                jsonschema_rs.validator_for(schema, validate_formats=True).validate(example["value"])
                seen.add(json.dumps(example["value"]))
    assert len(seen) > 20


def test_unsafe_operations_take_a_csrf_value_or_a_bearer_token(document: Document) -> None:
    for method, path, operation in list_operations(document):
        ways = [set(way) for way in operation["security"]]
        if (method, path) in OTHERS:
            assert ways == []
        elif method == "GET":
            assert ways == [{"bearer"}, {"session"}]
        else:
            assert ways == [{"bearer"}, {"session", "csrf"}]


def test_page_shows_every_operation_status_and_schema(document: Document, service: Service) -> None:
    answer = requests.get(f"{service.url}/docs", timeout=10)
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    page = BeautifulSoup(answer.text, "html.parser")
    ids = {str(tag["id"]) for tag in page.find_all(id=True)}
    for _, path, operation in list_operations(document):
        section = page.find(id=operation["operationId"])
        assert section is not None
        assert path in section.text
        for status in operation["responses"]:
            assert status in section.text
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= ids
    for link in page.find_all("a", href=re.compile("^#")):
        assert str(link["href"])[1:] in ids, link


def test_every_page_leads_to_the_reference(service: Service) -> None:
    home = BeautifulSoup(requests.get(service.url, timeout=10).text, "html.parser")
    assert home.find("a", href="/docs") is not None
