"""Turns the description into what the page shows: chapters of operations, references resolved."""

import json
from dataclasses import dataclass
from typing import Any

METHODS = ("get", "post", "delete")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A body as it may look. `label` is the error's code, or empty."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: str
    description: str
    schema: str
    examples: list[Example]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one path. `body` is the schema's name and `body_examples` its examples."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[dict[str, Any]]
    body: str
    body_examples: list[Example]
    answers: list[Answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    name: str
    operations: list[Operation]


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    name: str
    kind: str
    required: bool
    description: str


def chapters(document: dict[str, Any]) -> list[Chapter]:
    """The operations by their tag, in the order of the description."""
    found: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                found[operation["tags"][0]].append(_operation(document, path, method, item, operation))
    return [Chapter(name=name, operations=operations) for name, operations in found.items()]


def members(document: dict[str, Any]) -> dict[str, list[Member]]:
    """The members of every schema, those of objects inside as `outer.inner`."""
    return {name: _members(schema) for name, schema in document["components"]["schemas"].items()}


def _operation(
    document: dict[str, Any], path: str, method: str, item: dict[str, Any], operation: dict[str, Any]
) -> Operation:
    body = operation.get("requestBody", {})
    parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
    return Operation(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        parameters=[_resolve(document, parameter) for parameter in parameters],
        body=_schema_name(body),
        body_examples=_examples(body),
        answers=[
            _answer(status, _resolve(document, response))
            for status, response in operation["responses"].items()
        ],
    )


def _answer(status: str, response: dict[str, Any]) -> Answer:
    return Answer(
        status=status,
        description=response["description"],
        schema=_schema_name(response),
        examples=_examples(response),
    )


def _resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = document
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    resolved: dict[str, Any] = found
    return resolved


def _schema_name(holder: dict[str, Any]) -> str:
    for media in holder.get("content", {}).values():
        schema = media["schema"]
        reference = schema.get("$ref") or schema.get("allOf", [{}])[0].get("$ref", "")
        return str(reference.rpartition("/")[2])
    return ""


def _examples(holder: dict[str, Any]) -> list[Example]:
    return [
        Example(
            label="" if name == "example" else name,
            text=json.dumps(example["value"], indent=2, ensure_ascii=False),
        )
        for media in holder.get("content", {}).values()
        for name, example in media.get("examples", {}).items()
    ]


def _members(schema: dict[str, Any], prefix: str = "") -> list[Member]:
    found = []
    for name, inner in schema.get("properties", {}).items():
        found.append(
            Member(
                name=prefix + name,
                kind=_kind(inner),
                required=name in schema.get("required", ()),
                description=inner.get("description", ""),
            )
        )
        found += _members(inner, f"{prefix}{name}.")
    return found


def _kind(schema: dict[str, Any]) -> str:
    """The type in words: `array of "chat" | "voip"`, `string (date-time) or null`."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    words = " or ".join(kinds)
    if "items" in schema:
        return f"array of {_kind(schema['items'])}"
    if "minimum" in schema:
        return f"{words}, {schema['minimum']} to {schema['maximum']}"
    return words.replace("string", f"string ({schema['format']})") if "format" in schema else words
