"""The API's description as OpenAPI 3.1, from the routes, the models and the problem codes.

https://spec.openapis.org/oas/v3.1.1.html
"""

import inspect
import re
from functools import cache
from http import HTTPStatus
from typing import Any

from flask import current_app
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from werkzeug.routing import Rule

from trusted_service.settings import Settings
from trusted_service.web.http.problems import HEADERS, PROBLEMS
from trusted_service.web.openapi import models
from trusted_service.web.security.audiences import Audience, audience_of
from trusted_service.web.security.signing import cookie_prefix

Document = dict[str, Any]

TITLE = "Trusted service for Azure Communication Services"
ABOUT = """\
Signs people in with Entra ID and hands each one tokens for their own Communication Services identity.

Call it from a page of this origin with the browser's session (unsafe methods carry `X-CSRFToken`, its value
from `GET /api/me`), or from anywhere with an Entra ID access token for this service as bearer; where that
header is present cookies do not count. Bodies have at most 16 KiB. A response comes within 15 seconds.
Errors are problem details (RFC 9457): programs should branch on `code`."""
CSRF_TEXT = "`csrfToken` of GET /api/me; only with the cookie."
CSRF = {"type": "apiKey", "in": "header", "name": "X-CSRFToken", "description": CSRF_TEXT}
TAGS = {"api": "Own identity", "admin_api": "Administration", "health": "Service", "openapi": "Service"}
"""By blueprint."""
HEADER_TEXTS = {
    "X-Request-ID": "The `requestId`.",
    "WWW-Authenticate": "`Bearer`, with `error` where a token was sent (RFC 6750).",
    "Retry-After": "Seconds, or an HTTP date where an upstream sent one.",
    "Allow": "The methods that the address allows.",
}
ERRORS = (401, 403, 405, 413, 429, 500, 503)
"""Of every operation that is not public."""


class SchemaGenerator(GenerateJsonSchema):
    """Without a title for each member, which would only repeat its name."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


@cache
def openapi_document(settings: Settings) -> Document:
    """Return the description of the current application's routes under its settings."""
    operations: list[tuple[Rule, models.Operation]] = [
        (rule, operation)
        for rule in current_app.url_map.iter_rules()
        if (operation := getattr(current_app.view_functions[rule.endpoint], "operation", None))
    ]
    bodies = {body for _, operation in operations for body in (operation.request, operation.response)}
    bodies |= {models.Problem, models.token_request(settings.token_scopes, settings.token_lifetime_minutes)}
    _, definitions = models_json_schema(
        [(body, "validation") for body in bodies if body not in (None, models.TokenRequest)],
        ref_template="#/components/schemas/{model}",
        schema_generator=SchemaGenerator,
    )
    schemas = dict(sorted(definitions["$defs"].items()))
    paths: Document = {}
    for rule, operation in operations:
        path = re.sub(r"<uuid:(\w+)>", lambda match: f"{{{to_camel(match[1])}}}", rule.rule)
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        paths.setdefault(path, {})[method.lower()] = _operation(rule, operation, schemas)
    token = f"An Entra ID access token for {settings.entra_client_id} with the scope {settings.api_scope}."
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": token}
    cookie = f"{cookie_prefix(settings)}session"
    session = {"type": "apiKey", "in": "cookie", "name": cookie, "description": "From /auth/sign-in."}
    statuses = sorted({status for status, _ in PROBLEMS.values()})
    return {
        "openapi": "3.1.1",
        "info": {"title": TITLE, "version": "1.0.0", "description": ABOUT},
        "servers": [{"url": settings.public_url}],
        "tags": [{"name": name} for name in dict.fromkeys(TAGS.values())],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {HTTPStatus(status).name: _problem_response(status, schemas) for status in statuses},
            "securitySchemes": {"bearer": bearer, "session": session, "csrf": CSRF},
        },
    }


def _operation(rule: Rule, operation: models.Operation, schemas: Document) -> Document:
    view = current_app.view_functions[rule.endpoint]
    summary, *description = re.split(r"\.\s+", inspect.getdoc(view) or "", maxsplit=1)
    parameters: list[Document] = [
        {"name": name, "in": "path", "required": True, "schema": schemas["User"]["properties"][name]}
        for name in map(to_camel, re.findall(r"<uuid:(\w+)>", rule.rule))
    ]
    for name, limits in operation.query.items():
        parameters.append({"name": name, "in": "query", "schema": {"type": "string", **limits}})
    described: Document = {
        "tags": [TAGS[rule.endpoint.partition(".")[0]]],
        "summary": summary.rstrip("."),
        "description": "".join(description),
        "operationId": operation.operation_id,
        "parameters": parameters,
        "responses": {},
    }
    for status in operation.statuses:
        success = {"description": HTTPStatus(status).phrase, "headers": _headers("X-Request-ID")}
        content = {"content": _content(operation.response, schemas)} if operation.response else {}
        described["responses"][str(status)] = success | content
    if operation.request:
        is_required = "required" in schemas[operation.request.__name__]
        described["requestBody"] = {"required": is_required, "content": _content(operation.request, schemas)}
    if audience_of(view) is Audience.PUBLIC:
        return described | {"security": []}
    errors = {*ERRORS, *operation.errors} | ({400, 415} if operation.request else set())
    errors |= {400} if operation.query else set()
    errors |= {404} if rule.arguments else set()
    for status in sorted(errors):
        described["responses"][str(status)] = {"$ref": f"#/components/responses/{HTTPStatus(status).name}"}
    session: Document = {"session": []} if "GET" in (rule.methods or ()) else {"session": [], "csrf": []}
    return described | {"security": [{"bearer": []}, session]}


def _headers(*names: str) -> Document:
    schema = {"type": "string"}
    return {name: {"description": HEADER_TEXTS[name], "required": True, "schema": schema} for name in names}


def _content(body: type[models.Model], schemas: Document) -> Document:
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    examples = {"example": {"value": _example(schema, schemas)}}
    return {"application/json": {"schema": schema, "examples": examples}}


def _example(schema: Document, schemas: Document) -> Any:
    """Return a value that fits the schema, from the examples in it."""
    match schema:
        case {"$ref": reference}:
            return _example(schemas[reference.rpartition("/")[2]], schemas)
        case (
            {"examples": [example, *_]} | {"const": example} | {"enum": [example, *_]} | {"default": example}
        ):
            return example
        case {"anyOf": [first, *_]}:
            return _example(first, schemas)
        case {"properties": properties}:
            return {name: _example(member, schemas) for name, member in properties.items()}
        case {"items": items}:
            return [_example(items, schemas)]
        case {"minimum": minimum}:
            return minimum
    return {"boolean": False, "string": ""}[schema["type"]]


def _problem_response(status: int, schemas: Document) -> Document:
    sentences = {code: text for code, (of, text) in PROBLEMS.items() if of == status}
    sentences.pop("sign_in_failed", None)  # only on pages
    limits = {"status": {"const": status}, "code": {"enum": list(sentences)}}
    problem = _example(schemas["Problem"], schemas) | {"title": HTTPStatus(status).phrase, "status": status}
    examples = {code: {"value": problem | {"detail": text, "code": code}} for code, text in sentences.items()}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": limits}]}
    return {
        "description": " ".join(dict.fromkeys(sentences.values())),
        "headers": _headers("X-Request-ID", *HEADERS.get(status, ())),
        "content": {"application/problem+json": {"schema": schema, "examples": examples}},
    }
