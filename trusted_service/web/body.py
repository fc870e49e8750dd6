"""Request bodies: read whole, up to a limit, whatever the client says about their length."""

import contextlib
from collections.abc import Callable
from typing import TypeVar

from flask import Flask, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

LARGEST_BODY = 16 * 1024
MOST_DISCARDED = 4 * 1024 * 1024

View = TypeVar("View", bound=Callable[..., object])


def init_app(app: Flask) -> None:
    # One byte more than is allowed: werkzeug cuts a chunked body at its limit without a word.
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY + 1


def up_to(largest: int) -> Callable[[View], View]:
    """Let bodies of one view have up to `largest` bytes. Every other view keeps LARGEST_BODY."""

    def mark(view: View) -> View:
        view.largest_body = largest  # type: ignore[attr-defined]
        return view

    return mark


def read() -> bytes:
    """Return the body. Raises RequestEntityTooLarge where it is too large, BadRequest where it is broken."""
    view = current_app.view_functions.get(request.endpoint or "")
    largest: int = getattr(view, "largest_body", LARGEST_BODY)
    request.max_content_length = largest + 1
    try:
        body = request.get_data()
    except HTTPException:
        raise
    except Exception as error:  # the server's own, for chunks that do not hold together
        raise BadRequest from error
    if len(body) > largest:
        raise RequestEntityTooLarge
    return body


def discard() -> None:
    """Read what the client still sends, up to a limit: a connection closed before that loses our answer."""
    stream = request.environ["wsgi.input"]
    left = MOST_DISCARDED
    with contextlib.suppress(Exception):  # what cannot be read need not be
        while left > 0 and (part := stream.read(min(left, 64 * 1024))):
            left -= len(part)
