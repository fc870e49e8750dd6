"""The description of the API, for programs and for people."""

import json
from functools import partial
from typing import Any

from flask import Blueprint, Response, jsonify, render_template

from trusted_service.web.http.context import services
from trusted_service.web.openapi.document import Document, openapi_document
from trusted_service.web.openapi.models import Description, Operation
from trusted_service.web.security.audiences import public, visitor

bp = Blueprint("openapi", __name__)


@bp.get("/openapi.json")
@public
@Operation("description", Description)
def openapi() -> Response:
    """Get this description."""
    return jsonify(openapi_document(services().settings))


@bp.get("/docs")
@visitor
def docs() -> str:
    """The same as a page."""
    document = openapi_document(services().settings)
    chapters: dict[str, list[tuple[str, Document]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            chapters[operation["tags"][0]].append((f"{method.upper()} {path}", operation))
    return render_template(
        "openapi/docs.html",
        document=document,
        chapters=chapters,
        type_name=_type_name,
        dump=partial(json.dumps, indent=2, ensure_ascii=False),
    )


def _type_name(schema: dict[str, Any]) -> str:
    """The type in words: `array of "chat" | "voip"`, `string (date-time) or null`."""
    match schema:
        case {"$ref": reference} | {"allOf": [{"$ref": reference}, *_]}:
            return str(reference).rpartition("/")[2]
        case {"anyOf": kinds}:
            return " or ".join(_type_name(kind) for kind in kinds)
        case {"enum": values}:
            return " | ".join(json.dumps(value) for value in values)
        case {"const": value}:
            return json.dumps(value)
        case {"items": items}:
            return f"array of {_type_name(items)}"
        case {"minimum": minimum, "maximum": maximum}:
            return f"{schema['type']}, {minimum} to {maximum}"
        case {"format": form}:
            return f"{schema['type']} ({form})"
    return str(schema["type"])
