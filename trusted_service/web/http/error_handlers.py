"""Turns errors into responses: problem details (RFC 9457) under /api, pages elsewhere."""

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from flask import Flask, Response, g, jsonify, make_response, redirect, render_template, request
from werkzeug.exceptions import HTTPException

from trusted_service import errors
from trusted_service.web.http import request_body
from trusted_service.web.http.context import is_api, request_id
from trusted_service.web.http.problems import HEADERS, PROBLEMS
from trusted_service.web.i18n import gettext
from trusted_service.web.i18n import mark_for_translation as _
from trusted_service.web.security import sign_in_state
from trusted_service.web.security.rate_limits import seconds_until_reset

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER_SECONDS = 86_400  # a number or a date; ours replaces a longer one of an upstream

ERRORS: dict[type[errors.TrustedServiceError], tuple[str, str, str]] = {
    errors.InvalidRequest: ("invalid_request", "input_validation_fail", ""),
    errors.InvalidTeamsToken: ("invalid_request", "authn_token_fail", "teams-"),
    errors.SignInFailed: ("sign_in_failed", "authn_login_fail", ""),
    errors.ConsentRefused: ("sign_in_failed", "authn_login_fail", ""),
    errors.NotSignedIn: ("not_signed_in", "", ""),
    errors.InvalidToken: ("invalid_token", "authn_login_fail", ""),
    errors.InsufficientScope: ("insufficient_scope", "authz_fail", "scope"),
    errors.CsrfFailed: ("csrf_failed", "authz_fail", "csrf"),
    errors.Blocked: ("blocked", "authz_fail", "blocked"),
    errors.RoleMissing: ("forbidden", "authz_fail", "role missing"),
    errors.ClientNotAllowed: ("forbidden", "authz_fail", "client"),
    errors.OtherUser: ("forbidden", "authz_fail", "other user"),
    errors.TenantNotAllowed: ("forbidden", "authz_fail", "tenant not allowed"),
    errors.TeamsNotGranted: ("forbidden", "authz_fail", "teams "),
    errors.OwnAccount: ("conflict", "authz_fail", ""),
    errors.LastAdministrator: ("conflict", "authz_fail", ""),
    errors.NotFound: ("not_found", "", ""),
}
"""The code, the log event (none if empty), and the beginning of the logged reason."""
SENTENCES: dict[type[errors.TrustedServiceError] | errors.Done, str] = {
    errors.InvalidTeamsToken: _("The token for Microsoft Teams was not accepted."),
    errors.ConsentRefused: _("No consent was given, so nobody of that organisation can sign in here yet."),
    errors.ClientNotAllowed: _("This client may not call this service."),
    errors.OtherUser: _("That is a different account from the one signed in here."),
    errors.TenantNotAllowed: _("Your organisation does not have access to this service."),
    errors.TeamsNotGranted: _(
        "Entra ID did not let this service act in Microsoft Teams for you. You or your organisation "
        "must consent first."
    ),
    errors.OwnAccount: _("You cannot block or delete yourself. Your own data can be erased under “My data”."),
    errors.LastAdministrator: _(
        "This is the last administrator who was seen here, so it takes a second confirmation: "
        "confirm=last-administrator."
    ),
    errors.NotFound: _("There is no such user."),
    errors.IndexMissing: _(
        "The list of users is not available until an operator has run this command: "
        "flask --app wsgi users reindex"
    ),
    errors.ChangedTooOften: _("Someone else is changing this right now. Please try again."),
    "action": _("The action is done, but the user cannot be shown right now."),
    "block": _(
        "The user is blocked and signed out, but the revocation of the tokens already issued failed. "
        "Please block them again in a moment."
    ),
    "block-row": _(
        "The user is blocked, but not all of their sessions have ended, and the revocation of their tokens "
        "follows that. Both go on in the background."
    ),
    "block-unknown": _("It is not known whether the user is blocked. Please block them again in a moment."),
    "delete": _(
        "The user is deleted, but tokens of an identity in another Communication Services resource "
        "could not be revoked. They expire within 24 hours."
    ),
    "delete-row": _(
        "The user is signed out, but the deletion did not finish. Please delete them again in a moment."
    ),
}
"""Sentences in place of the code's: of an error, or of an upstream's failure after a part was done."""

CAUSES: dict[errors.Cause, tuple[str, str]] = {
    "not-assigned": ("forbidden", _(
        "Your account is not assigned to this application. Ask an administrator of your organisation to "
        "assign you, and then sign in again."
    )),
    "policy": ("forbidden", _(
        "A security policy of your organisation (Conditional Access) does not allow this sign-in. Use a "
        "device and a network that your organisation trusts, or ask its administrator."
    )),
    "approval": ("forbidden", _(
        "An administrator of your organisation must approve this application before you can sign in. Ask "
        "them to do so."
    )),
    "account": ("forbidden", _(
        "Your account is not in the directory of this organisation, is locked or disabled, or its password "
        "has expired. Sign in with another account, or ask an administrator of your organisation."
    )),
    "declined": ("sign_in_failed", _(
        "The sign-in was cancelled, or consent to what this application asks for is missing or was declined. "
        "Sign in again and accept, or ask an administrator of your organisation to consent for everybody."
    )),
    "again": ("sign_in_failed", _(
        "Entra ID needs your choice of an account, or another proof that it is you (multi-factor "
        "authentication). Sign in again and complete it."
    )),
    "setup": ("sign_in_failed", _(
        "This application is not set up correctly at Entra ID, so starting again does not help. Please tell "
        "the people who run this service."
    )),
    "no-flow": ("sign_in_failed", _(
        "This sign-in could not be completed. Perhaps it took longer than ten minutes, was already "
        "completed, or began in another browser. Please start again."
    )),
}  # fmt: skip
"""The code, and the sentence: what happened, and whose turn it is."""


def init_app(app: Flask) -> None:
    app.register_error_handler(errors.TrustedServiceError, _handle_domain_error)
    app.register_error_handler(errors.UpstreamError, _handle_upstream_error)
    app.register_error_handler(HTTPException, _handle_http_error)
    app.register_error_handler(Exception, _handle_defect)


def _handle_domain_error(error: errors.TrustedServiceError) -> Response:
    if type(error) not in ERRORS:
        return _handle_defect(error)
    code, event, reason = ERRORS[type(error)]
    if event:
        log.warning(event, reason=f"{reason}{error.reason}", error=type(error).__name__, **error.details)
    sentence = error.reason if isinstance(error, errors.InvalidRequest) else SENTENCES.get(type(error))
    cause = error.cause if isinstance(error, errors.SignInFailed) else None
    if cause and not isinstance(error, errors.TeamsNotGranted):
        code, sentence = CAUSES[cause]
    elif cause in ("policy", "setup"):  # else the sentence about consent
        sentence = CAUSES[cause][1]
    return _respond(code, sentence)


def _handle_upstream_error(error: errors.UpstreamError) -> Response:
    throttled = isinstance(error, errors.UpstreamThrottled)
    log.error("upstream_error", throttled=throttled, **error.log_fields)
    code = "upstream_throttled" if throttled else "upstream_unavailable"
    code = "conflict" if isinstance(error, errors.ChangedTooOften) else code
    seconds = errors.retry_after_seconds(error.retry_after)
    is_usable = seconds is not None and seconds <= MAX_RETRY_AFTER_SECONDS
    sentence = SENTENCES.get(error.done) or SENTENCES.get(type(error))
    return _respond(code, sentence, {"Retry-After": error.retry_after or ""} if is_usable else {})


def _handle_http_error(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or 500)
    if status < 400 or error.response is not None:
        return make_response(error.get_response())
    if status >= 500:
        return _handle_defect(error)
    page = sign_in_state.find_page(request.path) if request.method in ("GET", "HEAD") else None
    if status == HTTPStatus.NOT_FOUND and page is not None:
        query = request.query_string.decode("latin-1")
        return make_response(redirect(f"{page}?{query}" if query else page, 302))
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        request_body.discard()
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        log.warning("excess_rate_limit_exceeded")
        headers["Retry-After"] = str(seconds_until_reset())
    code = next((code for code, (default, _text) in PROBLEMS.items() if default == status), "invalid_request")
    return _respond(code, headers=headers, status=status)


def _handle_defect(error: Exception) -> Response:
    log.error("internal_error", exc_info=error)
    return _respond("internal_error")


def _respond(
    code: str, sentence: str | None = None, headers: Mapping[str, str] = {}, status: int | None = None
) -> Response:
    """Return the response, by default with the sentence, the headers and the status of the code."""
    default_status, default_sentence = PROBLEMS[code]
    status, sentence = HTTPStatus(status or default_status), gettext(sentence or default_sentence)
    g.error_code = code
    if is_api(request.path):
        # With `about:blank`, `title` is the status' own phrase: https://www.rfc-editor.org/rfc/rfc9457
        problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": sentence}
        response = jsonify(**problem, code=code, requestId=request_id())
        response.mimetype = "application/problem+json"
    else:
        shown = {"status": status, "code": code, "sentence": sentence, "request_id": request_id()}
        response = make_response(render_template("errors/error.html", **shown))
    response.status_code = status
    response.headers.update({**HEADERS.get(status, {}), **headers})
    if code in ("invalid_token", "insufficient_scope"):  # RFC 6750 section 3.1
        response.headers["WWW-Authenticate"] = f'Bearer error="{code}"'
    return response
