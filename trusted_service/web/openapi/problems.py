"""The errors of the API, each status with its codes, as the description shows them.

Tests compare this with `trusted_service.web.errors`, which decides.
"""

from http import HTTPStatus
from typing import Any

PROBLEMS: dict[HTTPStatus, dict[str, str]] = {
    HTTPStatus.BAD_REQUEST: {
        "invalid_request": "scopes must be chosen from chat, voip, each once.",
    },
    HTTPStatus.UNAUTHORIZED: {
        "not_signed_in": "You are not signed in, or your session has ended.",
        "invalid_token": "The bearer token is not valid.",
    },
    HTTPStatus.FORBIDDEN: {
        "csrf_failed": "This request did not come from our own page. Reload the page and try again.",
        "blocked": "An administrator has blocked your access.",
        "insufficient_scope": "The token does not carry our scope.",
        "forbidden": "Only administrators may do this.",
    },
    HTTPStatus.NOT_FOUND: {"not_found": "There is no such user."},
    HTTPStatus.METHOD_NOT_ALLOWED: {"method_not_allowed": "This address does not take that method."},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {"too_large": "The request is too large."},
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {"unsupported_media_type": "The request body must be JSON."},
    HTTPStatus.TOO_MANY_REQUESTS: {"rate_limited": "That was too often. Please wait a moment."},
    HTTPStatus.INTERNAL_SERVER_ERROR: {"internal_error": "Something went wrong on our side."},
    HTTPStatus.SERVICE_UNAVAILABLE: {
        "upstream_throttled": "A service that we depend on is not available right now.",
        "upstream_unavailable": "A service that we depend on is not available right now.",
    },
}
MEANINGS = {
    HTTPStatus.BAD_REQUEST: "Malformed JSON, an unknown member, or a value that is not allowed.",
    HTTPStatus.UNAUTHORIZED: "No session or an ended one, or a bearer token that is not good.",
    HTTPStatus.FORBIDDEN: "Known, and not allowed to do this.",
    HTTPStatus.NOT_FOUND: "There is no such user.",
    HTTPStatus.METHOD_NOT_ALLOWED: "To any other method; `Allow` names those that the address takes.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is over 16 KiB.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not `application/json`.",
    HTTPStatus.TOO_MANY_REQUESTS: "More token requests than one user may make; wait as `Retry-After` says.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A defect of the service; report the `requestId`.",
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Entra ID, Table Storage or Communication Services says no or nothing, within 15 s; wait as"
        " `Retry-After` says."
    ),
}
HEADERS: dict[HTTPStatus, tuple[str, ...]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.METHOD_NOT_ALLOWED: ("Allow",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}


def response_name(status: HTTPStatus) -> str:
    return status.phrase.replace(" ", "")


def problem_responses() -> dict[str, Any]:
    """Every error by name, as it stands under `components`."""
    return {response_name(status): _response(status, codes) for status, codes in PROBLEMS.items()}


def problem_headers() -> dict[str, Any]:
    """The headers that errors carry, as they stand under `components`."""
    descriptions = {
        "X-Request-ID": "The `requestId`.",
        "WWW-Authenticate": "`Bearer`, with `error` where a token was sent (RFC 6750).",
        "Retry-After": "Seconds, or an HTTP date where an upstream asked for one.",
        "Allow": "The methods that the address takes.",
    }
    return {
        name: {"description": text, "required": True, "schema": {"type": "string"}}
        for name, text in descriptions.items()
    }


def _response(status: HTTPStatus, codes: dict[str, str]) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": MEANINGS[status],
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"}
            for name in ("X-Request-ID", *HEADERS.get(status, ()))
        },
        "content": {
            "application/problem+json": {
                "schema": {
                    "allOf": [
                        reference,
                        {"properties": {"status": {"const": int(status)}, "code": {"enum": list(codes)}}},
                    ]
                },
                "examples": {code: {"value": _example(status, code, text)} for code, text in codes.items()},
            }
        },
    }


def _example(status: HTTPStatus, code: str, detail: str) -> dict[str, object]:
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        # pragma: allowlist nextline secret (made up)
        "requestId": "0123456789abcdef0123456789abcdef",
    }
