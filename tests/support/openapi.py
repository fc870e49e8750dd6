"""Reads the OpenAPI document, and validates responses against it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

Document = dict[str, Any]


def list_operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield the method, the path and the description of each operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def resolve(document: Document, node: Document) -> Document:
    while "$ref" in node:
        found: Any = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node = found
    return node


def validate(document: Document, media: Document, value: object) -> None:
    """Raise unless the value fits the schema of this media type."""
    schema = media["schema"] | {"components": document["components"]}
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)


def list_codes(document: Document) -> dict[int, set[str]]:
    """Return the problem codes of each status."""
    problems = [
        response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]
        for response in document["components"]["responses"].values()
    ]
    return {problem["status"]["const"]: set(problem["code"]["enum"]) for problem in problems}
