"""Gives each request an id and a limit in time, and writes one line about it.

Every line that is written on the way says which request it belongs to, where it comes from, and who makes it.
"""

import re
import time
import uuid
from contextlib import ExitStack

import structlog
from flask import Flask, Response, g, request

from trusted_service import upstream
from trusted_service.web.context import optional_caller, request_id
from trusted_service.web.limits import client_address

log = structlog.get_logger(__name__)

HARMLESS = re.compile(
    r"(?:/(?:[A-Za-z0-9._-]{0,15}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![^/])){1,8}"
)
"""The beginning of a path in which each part is a GUID, or too short for any secret."""


def init_app(app: Flask) -> None:
    app.before_request(_start)
    app.after_request(_finish)
    app.teardown_request(_close)


def _start() -> None:
    # Ours alone: an id from outside could be made to look like another request's.
    g.request_id = uuid.uuid4().hex
    g.started_at = time.monotonic()
    g.scope = ExitStack()
    g.scope.enter_context(upstream.request_budget(g.request_id))
    who = structlog.contextvars.bound_contextvars(request_id=g.request_id, client=client_address(), user=None)
    g.scope.enter_context(who)


def _finish(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    caller = optional_caller()
    log.info(
        "request",
        method=request.method,
        route=None if request.url_rule is None else request.url_rule.rule,
        path=_path(),
        status=response.status_code,
        milliseconds=round((time.monotonic() - g.started_at) * 1000, 1),
        user=None if caller is None else str(caller.user.id),
        code=g.get("error_code"),
    )
    return response


def _path() -> str:
    """The path, never its query, which holds codes and states. Of what may hold anything, the beginning."""
    if request.url_rule is not None and not request.url_rule.arguments:
        return request.path
    harmless = HARMLESS.match(request.path)
    beginning = harmless[0] if harmless else ""
    return beginning if beginning == request.path else f"{beginning}…"


def _close(_error: BaseException | None) -> None:
    scope: ExitStack | None = g.pop("scope", None)
    if scope is not None:
        scope.close()
