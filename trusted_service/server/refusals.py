"""Responses of the main loop to requests that get no thread: problems, as the application's are."""

import json
from http import HTTPStatus
from uuid import uuid4

import structlog

from trusted_service.observability.signals import record_request, request_span

PROBLEMS = {
    503: ("upstream_unavailable", "All threads are busy."),
    431: ("too_large", "The headers are too large."),
}


def refuse(status: int) -> bytes:
    """The response, after which the connection is closed. It is recorded as those of requests are."""
    request_id, title, (code, detail) = uuid4().hex, HTTPStatus(status).phrase, PROBLEMS[status]
    with structlog.contextvars.bound_contextvars(request_id=request_id), request_span(request_id):
        record_request("-", None, status, code)
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps({**problem, "code": code, "requestId": request_id})
    head = f"HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\n"
    head += f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\nCache-Control: no-store\r\n"
    head += "Retry-After: 5\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head += "Connection: close\r\n\r\n"
    return (head + body).encode()
