"""The session of a browser: a cookie with the signed id of a session that lives in the storage."""

import functools
from collections.abc import Callable
from typing import Any

import structlog
from flask import Flask, g, request
from itsdangerous import BadSignature
from werkzeug.wrappers import Response

from trusted_service import upstream
from trusted_service.models import Caller
from trusted_service.web.context import note_user, optional_caller, request_id, services
from trusted_service.web.signing import cookie_name, signer

log = structlog.get_logger(__name__)


def init_app(app: Flask) -> None:
    app.after_request(_note_use_afterwards)


def find_caller() -> Caller | None:
    """The caller of this request's session; None without a cookie of ours, or where the session has ended."""
    cookies = request.cookies.getlist(cookie_name("session"))
    if len(cookies) != 1:
        return None  # two of one name: one of them was planted, and nobody can tell which
    try:
        session_id = signer("session").unsign(cookies[0]).decode("ascii")
    except (BadSignature, UnicodeError):
        return None
    session = services().access.find_session(session_id)
    if session is None:
        log.info("session_use_after_expire")
        return None
    note_user(session.user)
    return Caller(user=session.user, session=session)


def set_cookie(response: Response, session_id: str) -> None:
    response.set_cookie(
        cookie_name("session"),
        signer("session").sign(session_id).decode("ascii"),
        max_age=services().settings.session_absolute_minutes * 60,
        secure=services().settings.https,
        httponly=True,
        samesite="Lax",
    )


def clear_cookie(response: Response) -> None:
    response.delete_cookie(
        cookie_name("session"), secure=services().settings.https, httponly=True, samesite="Lax"
    )


def _note_use_afterwards(response: Response) -> Response:
    caller = optional_caller()
    if caller is not None and not g.get("session_ended"):
        afterwards(response, functools.partial(services().access.note_use, caller, g.get("issued")))
    return response


def afterwards(response: Response, action: Callable[[], None]) -> None:
    """Do it once the answer is on its way, in another thread: it must cost nobody time."""
    task = functools.partial(_within_budget, request_id(), structlog.contextvars.get_contextvars(), action)
    response.call_on_close(functools.partial(services().later.do, task))


def _within_budget(of_request: str, named: dict[str, Any], action: Callable[[], None]) -> None:
    with upstream.request_budget(of_request), structlog.contextvars.bound_contextvars(**named):
        action()
