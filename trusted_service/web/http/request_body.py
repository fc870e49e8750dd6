"""Request bodies: limited in size, parsed strictly as RFC 8259 allows, and validated by models."""

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from flask import current_app, request
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from trusted_service.errors import InvalidRequest
from trusted_service.web.openapi.models import Model
from trusted_service.web.security.audiences import View

LARGEST_BODY, MAX_DISCARDED = 16 * 1024, 4 * 1024 * 1024
SENTENCES = {
    "missing": "{member} is required.",
    "list_type": "{member} must be a list.",
    "string_type": "{member} must be a string.",
    "int_type": "{member} must be a whole number.",
    "greater_than_equal": "{member} must be at least {ge}.",
    "less_than_equal": "{member} may be at most {le}.",
    "too_short": "{member} must not be empty.",
    "string_too_short": "{member} must not be empty.",
    "literal_error": "{member} may only hold {expected}.",
    "not_unique": "{member} may hold each value only once.",
}
"""By pydantic's type of error: https://docs.pydantic.dev/latest/errors/validation_errors/"""

RequestModel = TypeVar("RequestModel", bound=Model)


def up_to(largest: int) -> Callable[[View], View]:
    """Let bodies of one view have up to `largest` bytes. Every other view keeps LARGEST_BODY."""

    def mark(view: View) -> View:
        view.largest_body = largest  # type: ignore[attr-defined]
        return view

    return mark


def read() -> None:
    """Read the body into Flask's cache. Raises RequestEntityTooLarge, or BadRequest for invalid chunks."""
    view = current_app.view_functions.get(request.endpoint or "")
    largest: int = getattr(view, "largest_body", LARGEST_BODY)
    # One byte more than the maximum: werkzeug cuts a chunked body at its limit without an error.
    request.max_content_length = largest + 1
    try:
        body = request.get_data()
    except HTTPException:
        raise
    except Exception as error:  # gunicorn's own, for invalid chunks
        raise BadRequest from error
    if len(body) > largest:
        raise RequestEntityTooLarge


def parse(model: type[RequestModel]) -> RequestModel:
    """Return the JSON body, {} if it is empty. Raises InvalidRequest and UnsupportedMediaType."""
    content = request.get_data()
    if content and request.mimetype != "application/json":
        raise UnsupportedMediaType
    try:
        # `int` raises ValueError for NaN and Infinity, which are not JSON.
        text = content.decode("utf-8") or "{}"
        document = json.loads(text, object_pairs_hook=_unique, parse_float=_number, parse_constant=int)
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(_explain(error, model)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body must be one JSON object in UTF-8, with each member once.") from error


def discard() -> None:
    """Read what the client still sends, up to a limit: closing the connection earlier loses the response."""
    stream = request.environ["wsgi.input"]
    left = MAX_DISCARDED
    with contextlib.suppress(Exception):  # what cannot be read need not be
        while left > 0 and (part := stream.read(min(left, 64 * 1024))):
            left -= len(part)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("duplicate member")
    return dict(pairs)


def _number(text: str) -> float:
    # As JSON Schema has it, 60.0 is an integer.
    number = float(text)
    return int(number) if number.is_integer() else number


def _explain(error: ValidationError, model: type[Model]) -> str:
    """Return a sentence about the first error that names the member."""
    first = error.errors(include_url=False, include_input=False)[0]
    if not first["loc"]:
        return "The body must be a JSON object."
    member = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        # A longer one, or one with other characters, could be a secret.
        name = f": {member}" if re.fullmatch(r"[A-Za-z]\w{0,29}", member, re.ASCII) else ""
        return f"The body has an unknown member{name}. It may have {', '.join(model.members())}."
    sentence = SENTENCES.get(first["type"], "{member} is not valid.")
    return sentence.format(member=member, **first.get("ctx", {}))
