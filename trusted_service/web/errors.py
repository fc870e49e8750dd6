"""The only place that turns errors into answers: problem details under /api, pages elsewhere.

The sentences say what happened to the person and what they can do; reasons for operators are in
the log, by the request id that stands in both.
"""

from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import structlog
from flask import Flask, Response, g, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from trusted_service import errors
from trusted_service.web import body
from trusted_service.web.context import request_id
from trusted_service.web.language import gettext as _
from trusted_service.web.limits import seconds_until_reset
from trusted_service.web.problem import is_api, problem

log = structlog.get_logger(__name__)

DEFAULT_RETRY_AFTER = "5"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    code: str
    detail: str
    headers: tuple[tuple[str, str], ...] = ()


def init_app(app: Flask) -> None:
    app.register_error_handler(errors.TrustedServiceError, _domain_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _defect)


def _domain_error(error: errors.TrustedServiceError) -> Response:
    match error:
        case errors.InvalidRequest():
            log.warning("input_validation_fail", reason=error.detail)
            answer = Answer(400, "invalid_request", error.detail)
        case errors.NotSignedIn():
            detail = _("You are not signed in, or your session has ended.")
            answer = Answer(401, "not_signed_in", detail, (("WWW-Authenticate", "Bearer"),))
        case errors.InvalidToken():
            log.warning("authn_login_fail", reason=error.reason, by="bearer token")
            challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
            answer = Answer(401, "invalid_token", _("The bearer token is not valid."), (challenge,))
        case errors.InvalidTeamsToken():
            log.warning("authn_token_fail", reason=f"teams-{error.reason}")
            answer = Answer(400, "invalid_request", _("The token for Microsoft Teams was not accepted."))
        case errors.InsufficientScope():
            log.warning("authz_fail", reason="scope")
            challenge = ("WWW-Authenticate", 'Bearer error="insufficient_scope"')
            answer = Answer(403, "insufficient_scope", _("The token does not carry our scope."), (challenge,))
        case errors.ClientNotAllowed():
            log.warning("authz_fail", reason="client")
            answer = Answer(403, "forbidden", _("This client may not call this service."))
        case errors.OtherUser():
            log.warning("authz_fail", reason="other user")
            answer = Answer(
                403, "forbidden", _("That is another account than the one that is signed in here.")
            )
        case errors.TeamsNotGranted():
            log.warning("authz_fail", reason=f"teams {error.reason}")
            detail = _(
                "Entra ID did not let this service act in Microsoft Teams for you. You or your organisation "
                "have to agree to it first."
            )
            answer = Answer(403, "forbidden", detail)
        case errors.NotFound():
            answer = Answer(404, "not_found", _("There is no such user."))
        case errors.RoleMissing():
            log.warning("authz_fail", reason="role missing")
            answer = Answer(403, "forbidden", _("Only administrators may do this."))
        case errors.SignInFailed():
            log.warning("authn_login_fail", reason=error.reason)
            answer = Answer(
                400, "sign_in_failed", _("This sign-in could not be completed. Please start again.")
            )
        case errors.Blocked():
            log.warning("authz_fail", reason="blocked")
            answer = Answer(403, "blocked", _("An administrator has blocked your access."))
        case errors.TenantNotAllowed():
            log.warning("authz_fail", reason="tenant not allowed")
            answer = Answer(403, "forbidden", _("Your organisation does not have access to this service."))
        case errors.CsrfFailed():
            log.warning("authz_fail", reason="csrf")
            detail = _("This request did not come from our own page. Reload the page and try again.")
            answer = Answer(403, "csrf_failed", detail)
        case errors.UpstreamError():
            answer = _upstream_error(error)
        case _:
            return _defect(error)
    return _respond(answer)


def _upstream_error(error: errors.UpstreamError) -> Answer:
    throttled = isinstance(error, errors.UpstreamThrottled)
    log.error("upstream_error", upstream=error.upstream, reason=error.reason, throttled=throttled)
    detail = _upstream_detail(error)
    retry_after = error.retry_after if _is_retry_after(error.retry_after) else DEFAULT_RETRY_AFTER
    code = "upstream_throttled" if throttled else "upstream_unavailable"
    return Answer(503, code, detail, (("Retry-After", str(retry_after)),))


def _upstream_detail(error: errors.UpstreamError) -> str:
    """A sentence for the person: what is in force although an upstream failed, else what they can do."""
    match error.done:
        case "block":
            return _(
                "The user is blocked and signed out, but the revocation of the tokens already issued failed. "
                "Please block them again in a moment."
            )
        case "delete":
            return _(
                "The user is deleted, but tokens of an identity in another Communication Services resource "
                "could not be revoked. They expire within 24 hours."
            )
        case "delete-row":
            return _(
                "The user is signed out, but the deletion did not finish. "
                "Please delete them again in a moment."
            )
    if isinstance(error, errors.IndexMissing):
        return _(
            "The list of users is not available until an operator has run this command: "
            "flask --app wsgi users reindex"
        )
    return _("A service that we depend on is not available right now. Please try again in a moment.")


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:
        return make_response(error.get_response())
    code, detail = {
        404: ("not_found", _("There is nothing at this address.")),
        405: ("method_not_allowed", _("This address does not take that method.")),
        413: ("too_large", _("The request is too large.")),
        415: ("unsupported_media_type", _("The request body must be JSON.")),
        429: ("rate_limited", _("That was too often. Please wait a moment.")),
    }.get(status, ("invalid_request", _("The request is malformed.")))
    headers = [(name, value) for name, value in error.get_headers() if name == "Allow"]
    if status == 429:
        log.warning("excess_rate_limit_exceeded")
        headers.append(("Retry-After", str(seconds_until_reset())))
    if status >= 500:
        return _defect(error)
    if status == 413:
        body.discard()
    return _respond(Answer(status, code, detail, tuple(headers)))


def _defect(error: Exception) -> Response:
    log.error("internal_error", exc_info=error)
    return _respond(Answer(500, "internal_error", _("Something went wrong on our side.")))


def _respond(answer: Answer) -> Response:
    g.error_code = answer.code
    if is_api(request.path):
        response = problem(answer.status, answer.code, answer.detail)
    else:
        page = render_template("errors/error.html", answer=answer, request_id=request_id())
        response = make_response(page, answer.status)
    response.headers.extend(answer.headers)
    return response


def _is_retry_after(value: str | None) -> bool:
    # Seconds or an HTTP date; an upstream's anything else is not passed on.
    if value is None:
        return False
    if value.isascii() and value.isdigit():
        return len(value) < 6
    try:
        parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError, IndexError):
        return False
    return True
