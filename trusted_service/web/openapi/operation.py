"""The parts that operations of the description are made of."""

from http import HTTPStatus
from typing import Any

from trusted_service.web.openapi.problems import response_name
from trusted_service.web.openapi.schemas import EXAMPLES

Part = dict[str, Any]

ALWAYS = (401, 403, 405, 413, 500, 503)
"""What every operation under /api may answer."""
SECURITY: list[Part] = [{"bearer": []}, {"session": []}]
UNSAFE_SECURITY: list[Part] = [{"bearer": []}, {"session": [], "csrf": []}]


def operation(
    tag: str,
    summary: str,
    success: Part,
    *,
    operation_id: str,
    unsafe: bool = False,
    request: Part | None = None,
    errors: tuple[int, ...] = (),
    parameters: list[Part] | None = None,
    description: str = "",
) -> Part:
    """An operation under /api: its success, what every one may answer besides, and `errors` of its own.

    An `unsafe` one takes a CSRF value with the browser's cookie.
    """
    references = {
        str(status): {"$ref": f"#/components/responses/{response_name(HTTPStatus(status))}"}
        for status in sorted((*ALWAYS, *errors))
    }
    return {
        "tags": [tag],
        "summary": summary,
        **({"description": description} if description else {}),
        "operationId": operation_id,
        "security": UNSAFE_SECURITY if unsafe else SECURITY,
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": request} if request else {}),
        "responses": success | references,
    }


def public(tag: str, summary: str, operation_id: str, responses: Part) -> Part:
    """An operation for anybody."""
    return {
        "tags": [tag],
        "summary": summary,
        "operationId": operation_id,
        "security": [],
        "responses": responses,
    }


def answer(status: int, schema: str | None = None) -> Part:
    """A success, by its status: JSON of this schema, or nothing."""
    headers = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    response: Part = {"description": HTTPStatus(status).phrase, "headers": headers}
    if schema is not None:
        response["content"] = _content(schema)
    return {str(status): response}


def body(schema: str, *, required: bool) -> Part:
    """A JSON body of this schema."""
    return {"required": required, "content": _content(schema)}


def _content(schema: str) -> Part:
    return {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{schema}"},
            "examples": {"example": {"value": EXAMPLES[schema]}},
        }
    }


def query(name: str, description: str, **limits: object) -> Part:
    """A text in the query; `limits` in the words of JSON Schema."""
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **limits}}
