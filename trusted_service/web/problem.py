"""Errors of the API as RFC 9457 problem details. `/api` answers JSON whatever happens."""

from http import HTTPStatus

from flask import Response, jsonify

from trusted_service.web.context import request_id


def is_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def problem(status: int, code: str, detail: str) -> Response:
    """`type` is about:blank, so `title` is the status' own phrase; `code` is what programs should look at.

    https://www.rfc-editor.org/rfc/rfc9457.html#name-aboutblank
    """
    response = jsonify(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        requestId=request_id(),
    )
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response
