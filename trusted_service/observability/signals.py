"""What is recorded of each request, each call to an upstream and each log line: spans, counts and ids.

Spans hold routes and the names of operations. The instrumentations of Flask and requests record addresses,
which hold codes, keys and ids, and clients' IP addresses, and miss the requests that a hook refuses.
"""

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from structlog.typing import EventDict

from trusted_service.models import without_secrets
from trusted_service.observability import metrics

STATUS = "http.response.status_code"
FAILED = trace.StatusCode.ERROR
NAME = re.compile(r"/([$:]?[a-z_-]+)(?=/|$)", re.IGNORECASE)

_tracer = trace.get_tracer("trusted_service")
# Texts of exceptions hold addresses.
_start = partial(_tracer.start_as_current_span, record_exception=False, set_status_on_exception=False)


class HasStatus(Protocol):
    status_code: int


Response = TypeVar("Response", bound=HasStatus)


def request_span() -> AbstractContextManager[trace.Span]:
    """The span of a request. A client's trace id is not believed, like its request id."""
    return _start("request", context=Context(), kind=trace.SpanKind.SERVER)


def describe_request(method: str, route: str, status: int) -> None:
    span = trace.get_current_span()
    span.set_attributes({"http.request.method": method, "http.route": route, STATUS: status})
    if status >= 500:
        span.set_status(FAILED)


def observe_call(upstream: str, method: str, url: str, send: Callable[[], Response]) -> Response:
    """Send a request to an upstream, and record its operation, status (0: no response) and duration."""
    address, operation = urlsplit(url), name_operation(url)
    attributes = {
        "http.request.method": method,
        "peer.service": upstream,
        "url.full": f"{address.scheme}://{address.netloc}/{operation}",
    }
    status, began = 0, time.monotonic()
    with _start(f"{method} {operation}", kind=trace.SpanKind.CLIENT, attributes=attributes) as span:
        try:
            response = send()
            status = response.status_code
            return response
        finally:
            dimensions: dict[str, str | int] = {
                "upstream": upstream,
                "operation": f"{method} {operation}",
                "status": status,
            }
            metrics.durations.record(time.monotonic() - began, dimensions)
            span.set_attribute(STATUS, status)
            # Others, such as 404 and 409, are answers that the service expects.
            if status in (0, 401, 403, 429) or status >= 500:
                span.set_status(FAILED)


def name_operation(url: str) -> str:
    """The last name in the path: `token`, `:issueAccessToken`, or the table. Never a key or an id."""
    names = NAME.findall(urlsplit(url).path.partition("(")[0])
    return names[-1] if names else ""


def count_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Count what a log line reports. It and the rest are processors of structlog."""
    match name := event["event"]:
        case "authn_token_created":
            metrics.tokens.add(1, {"kind": "communication"})
        case "teams_token_issued":
            metrics.tokens.add(1, {"kind": "teams"})
        case "request" if event["status"] in (401, 403, 429):
            metrics.refusals.add(1, {"code": event["code"] or ""})
        case "identity_switched":
            metrics.replaced.add(1, {"change": event["change"]})
        case "identity_orphaned" | "identity_may_be_orphaned":
            metrics.orphaned.add(1, {"event": name})
    return event


def add_trace_ids(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Name the current span."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def strip_request_target(_logger: object, _method: str, event: EventDict) -> EventDict:
    """gunicorn quotes what it cannot read, and the whole address of what fails. Both can hold codes."""
    message = str(event["event"])
    if message.startswith(("Invalid request from", "Error handling request")):
        event["event"] = re.split(r"['\"?]", message, maxsplit=1)[0].rstrip(" :b")
    return event


def remove_secrets(_logger: object, _method: str, line: str | bytes | EventDict) -> str:
    return without_secrets(str(line))
