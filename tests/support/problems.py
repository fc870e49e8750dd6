"""What every error of the API looks like: RFC 9457, with the contract's members and headers."""

from http import HTTPStatus
from typing import Any

import requests

MEMBERS = ["type", "title", "status", "detail", "code", "requestId"]


def assert_problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Check that the answer is this problem, to the letter; return its document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert list(document) == MEMBERS
    assert document["type"] == "about:blank"
    assert document["title"] == HTTPStatus(status).phrase
    assert document["status"] == status
    assert document["code"] == code
    assert isinstance(document["detail"], str)
    assert document["detail"]
    assert document["requestId"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
    # RFC 6750 section 3 wants it where a bearer token is short of a scope, too.
    assert ("WWW-Authenticate" in answer.headers) == (status == 401 or code == "insufficient_scope")
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    if status in (429, 503):
        assert answer.headers["Retry-After"]
    return document
