"""The places at which lists go on, signed, so that a browser cannot make up one of its own."""

from flask import request
from itsdangerous import BadData

from trusted_service.errors import InvalidRequest
from trusted_service.web.signing import serializer


def wrap(place: str | None) -> str | None:
    return None if place is None else str(serializer(_purpose()).dumps(place))


def unwrap(cursor: str) -> str:
    """Raises InvalidRequest unless `wrap` made it for this list; an empty cursor is the beginning."""
    if not cursor:
        return ""
    try:
        return str(serializer(_purpose()).loads(cursor))
    except BadData as error:
        raise InvalidRequest("cursor is not one of ours.") from error


def _purpose() -> str:
    return f"cursor {request.endpoint}"
