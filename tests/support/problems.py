"""Errors of the API: RFC 9457, with the contract's members and headers."""

from http import HTTPStatus
from typing import Any

import requests


def assert_problem(response: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Check that the response is exactly this problem; return its document."""
    assert response.status_code == status, response.text
    headers, document = response.headers, response.json()
    assert headers["Content-Type"] == "application/problem+json"
    assert list(document) == ["type", "title", "status", "detail", "code", "requestId"]
    expected = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    assert document | expected == document
    assert isinstance(document["detail"], str)
    assert document["detail"]
    assert document["requestId"] == headers["X-Request-ID"]
    assert headers["Cache-Control"] == "no-store"
    assert "Location" not in headers
    # RFC 6750, section 3, requires it also if a bearer token lacks a scope.
    is_challenge = status == 401 or code == "insufficient_scope"
    assert headers.get("WWW-Authenticate", "").startswith("Bearer") == is_challenge
    assert is_challenge or "WWW-Authenticate" not in headers
    assert status not in (429, 503) or headers["Retry-After"]
    return dict(document)
