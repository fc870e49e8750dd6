"""Reads a JSON request body strictly: what two parsers could read differently is refused.

https://www.rfc-editor.org/rfc/rfc8259.html
"""

import json
from collections.abc import Collection
from typing import Any, NoReturn

from flask import request
from werkzeug.exceptions import UnsupportedMediaType

from trusted_service.errors import InvalidRequest
from trusted_service.web import body


def read_object(members: Collection[str]) -> dict[str, Any]:
    """Return the body's members, {} for an empty body.

    Raises InvalidRequest unless it is one JSON object in UTF-8 with none but these members, each
    once; UnsupportedMediaType where it does not say that it is JSON.
    """
    content = body.read()
    if not content:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType
    try:
        document = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body must be one JSON object in UTF-8.") from error
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if set(document) - set(members):
        raise InvalidRequest(f"The body may have no members but {', '.join(members)}.")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member stands twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
