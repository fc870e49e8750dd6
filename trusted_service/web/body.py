"""Request bodies: read whole, up to a limit, whatever the client says about their length."""

from flask import Flask, request
from werkzeug.exceptions import RequestEntityTooLarge

LARGEST_BODY = 16 * 1024
MOST_DISCARDED = 1024 * 1024


def init_app(app: Flask) -> None:
    # One byte more than is allowed: werkzeug cuts a chunked body at its limit without a word.
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY + 1


def read() -> bytes:
    """Return the body. Raises RequestEntityTooLarge where it is over the limit."""
    body = request.get_data()
    if len(body) > LARGEST_BODY:
        raise RequestEntityTooLarge
    return body


def discard() -> None:
    """Read what the client still sends, up to a limit: a connection closed before that loses our answer."""
    stream = request.environ["wsgi.input"]
    left = MOST_DISCARDED
    while left > 0 and (part := stream.read(min(left, 64 * 1024))):
        left -= len(part)
