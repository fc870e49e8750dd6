"""Gives each request an id and a limit in time, and writes one line about it."""

import time
import uuid
from contextlib import ExitStack

import structlog
from flask import Flask, Response, g, request

from trusted_service import upstream
from trusted_service.web.context import optional_caller, request_id

log = structlog.get_logger(__name__)


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
    g.scope.enter_context(structlog.contextvars.bound_contextvars(request_id=g.request_id))


def _finish(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    caller = optional_caller()
    # The path without its query, which holds codes and states.
    log.info(
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        milliseconds=round((time.monotonic() - g.started_at) * 1000, 1),
        user=None if caller is None else str(caller.user.id),
        code=g.get("error_code"),
    )
    return response


def _close(_error: BaseException | None) -> None:
    scope: ExitStack | None = g.pop("scope", None)
    if scope is not None:
        scope.close()
