"""What is recorded of each request, each call to an upstream and each log line: spans, counts and ids.

Spans hold routes and the names of operations. The instrumentations of Flask and requests record addresses,
which hold codes, keys and ids, and clients' IP addresses, and miss the requests that a hook refuses.
"""

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import partial
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from requests import Response
from structlog.typing import EventDict

from trusted_service.models import without_secrets
from trusted_service.observability import metrics

STATUS = "http.response.status_code"
DETAIL_SECONDS, BURST_SECONDS = 0.2, 2.0
"""Five requests a second, and ten at once, have a span for each call; others for those that fail."""
NAME = re.compile(r"/([$:]?[a-z_-]+)(?=/|$)", re.IGNORECASE)

log = structlog.get_logger(__name__)

_has_details: ContextVar[bool] = ContextVar("has_details", default=False)
_details_until = 0.0
_tracer = trace.get_tracer("trusted_service")
# Texts of exceptions hold addresses.
_start = partial(_tracer.start_as_current_span, record_exception=False, set_status_on_exception=False)


def request_span(request_id: str) -> AbstractContextManager[trace.Span]:
    """The span of a request. A client's trace id is not believed, like its request id."""
    global _details_until
    now = time.monotonic()
    until = max(now, _details_until) + DETAIL_SECONDS
    _has_details.set(until <= now + BURST_SECONDS)
    if _has_details.get():
        _details_until = until
    attributes = {"request_id": request_id}
    return _start("request", context=Context(), kind=trace.SpanKind.SERVER, attributes=attributes)


def record_request(method: str, route: str | None, status: int, code: str | None, **fields: object) -> None:
    """Log and count a request that is over, and describe its span, which is the current one."""
    span = trace.get_current_span()
    attributes = {"http.request.method": method, "http.route": route or "", "code": code or ""}
    span.set_attributes({**attributes, STATUS: status})
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)
    if status in (401, 403, 429):
        metrics.refusals.add(1, {"code": code or ""})
    log.info("request", method=method, route=route, status=status, **fields, code=code)


def observe_call(upstream: str, method: str, url: str, send: Callable[[], Response]) -> Response:
    """Send a request to an upstream, and record its operation, status (0: no response) and duration."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return send()  # nothing is configured
    status, began = 0, time.monotonic()
    try:
        response = send()
        status = response.status_code
        return response
    finally:
        name, seconds = name_operation(url), time.monotonic() - began
        labels = {"upstream": upstream, "operation": f"{method} {name}", "status": str(status)}
        metrics.durations.record(seconds, labels)
        # Others, such as 404 and 409, are answers that the service expects.
        failed = status in (0, 401, 403, 429) or status >= 500
        # Calls of periodic tasks and jobs belong to no request.
        if trace.get_current_span().get_span_context().is_valid and (failed or _has_details.get()):
            attributes = {"http.request.method": method, "peer.service": upstream, "url.full": f"/{name}"}
            kind, start = trace.SpanKind.CLIENT, time.time_ns() - int(seconds * 1e9)
            span = _tracer.start_span(f"{method} {name}", kind=kind, attributes=attributes, start_time=start)
            span.set_attribute(STATUS, status)
            if failed:
                span.set_status(trace.StatusCode.ERROR)
            span.end()


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
        case "identity_switched" if event.get("change") == "replaced":
            metrics.replaced.add(1)
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
