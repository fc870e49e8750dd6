"""Finds the caller of each request, by session cookie or bearer token, and checks the audience of its route.

The CSRF value of a session is its key, signed: it needs no storage, ends with the session, and stays valid
with a key of SECRET_KEY_FALLBACKS, which Flask-WTF does not offer.
https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import re
from functools import partial

import structlog
from flask import Flask, current_app, g, redirect, request, url_for
from itsdangerous import BadSignature, Signer
from werkzeug.wrappers import Response

from trusted_service.entra.tokens import Bearer
from trusted_service.errors import CsrfFailed, InsufficientScope, InvalidToken, NotSignedIn, RoleMissing
from trusted_service.models import Caller, Session
from trusted_service.web.http import request_body
from trusted_service.web.http.context import as_request, bind_user, is_api, record_use, services
from trusted_service.web.security import signing
from trusted_service.web.security.audiences import Audience

log = structlog.get_logger(__name__)

CREDENTIALS = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)
"""https://www.rfc-editor.org/rfc/rfc6750.html#section-2.1"""


SIGN_OUT = "auth.sign_out"


def init_app(app: Flask) -> None:
    app.config["SESSION_COOKIE_NAME"] = app.config["COOKIE_PREFIX"] + "session"
    app.extensions["session_signer"] = signing.signer(app, "session")
    app.extensions["csrf_signer"] = signing.signer(app, "csrf")
    app.before_request(_admit)


def set_cookie(response: Response, session_id: str) -> None:
    value = current_app.extensions["session_signer"].sign(session_id).decode("ascii")
    max_age = services().settings.session_absolute_minutes * 60
    attributes = current_app.config["COOKIE_ATTRIBUTES"]
    response.set_cookie(current_app.config["SESSION_COOKIE_NAME"], value, max_age=max_age, **attributes)


def clear_cookie(response: Response) -> None:
    attributes = current_app.config["COOKIE_ATTRIBUTES"]
    response.delete_cookie(current_app.config["SESSION_COOKIE_NAME"], **attributes)


def csrf_value(session: Session | None) -> str | None:
    """The value that unsafe requests of this session must carry; None without a session."""
    signer: Signer = current_app.extensions["csrf_signer"]
    return None if session is None else signer.get_signature(session.key).decode("ascii")


def is_administrator(caller: Caller) -> bool:
    return services().settings.admin_role in caller.user.roles


def _admit() -> Response | None:
    if request.endpoint is None:
        return None  # no such route: the response is 404 or 405
    audience: Audience = current_app.view_functions[request.endpoint].audience  # type: ignore[union-attr]
    is_preflight = request.method == "OPTIONS" and is_api(request.path)  # sent without credentials
    if audience is Audience.PUBLIC or is_preflight:
        return None
    request_body.read()  # also where no view would: a body over the limit is refused on every route
    if is_api(request.path) and "Authorization" in request.headers:  # then cookies do not count
        caller: Caller | None = _get_bearer(for_administrators=audience is Audience.ADMINISTRATOR)
    else:
        caller = _find_session_caller()
    g.caller = caller
    if caller is None:
        return None if audience is Audience.VISITOR else _ask_to_sign_in()
    if caller.session is not None:
        _check_csrf(caller.session)
    if audience is Audience.ADMINISTRATOR and not is_administrator(caller):
        raise RoleMissing
    return None


def _get_bearer(*, for_administrators: bool) -> Caller:
    """The token's caller. Raises InvalidToken, InsufficientScope, ClientNotAllowed or Blocked."""
    # Several headers arrive here joined by a comma, which no token contains.
    credentials = CREDENTIALS.fullmatch(request.headers["Authorization"].strip())
    if credentials is None:
        raise InvalidToken("header")
    bearer = services().entra_tokens.read_bearer(credentials[1])
    bind_user(bearer.user)
    if not (for_administrators if bearer.application else services().settings.api_scope in bearer.scopes):
        raise InsufficientScope
    caller = services().access.admit(bearer.user)  # an application can be blocked like a user
    _record_role(bearer, for_administrators=for_administrators)
    return Caller(user=bearer.user, application=True) if bearer.application else caller


def _record_role(bearer: Bearer, *, for_administrators: bool) -> None:
    """Record the role without delaying the request; a loss on users' routes too, as jobs end with it."""
    administrators, user = services().administrators, bearer.user
    if bearer.application:
        return  # it can start no job, and it takes a person to undo something
    if for_administrators:
        services().background.run(as_request(partial(administrators.record, user, bearer.issued_at)))
    elif administrators.role not in user.roles:
        administrators.record_loss(user.id, bearer.issued_at)


def find_session() -> Session | None:
    """The session of this request's cookie, of any tenant; None if there is none or it has ended."""
    cookies = request.cookies.getlist(current_app.config["SESSION_COOKIE_NAME"])
    if len(cookies) != 1:
        return None  # one of two cookies with the same name is planted, and they cannot be told apart
    try:
        session_id = current_app.extensions["session_signer"].unsign(cookies[0]).decode("ascii")
    except (BadSignature, UnicodeError):
        return None
    session = services().sessions.find(session_id)
    if session is None:
        log.info("session_use_after_expire")
    return session


def _find_session_caller() -> Caller | None:
    """The caller by this request's session, unless their tenant is refused."""
    session = find_session()
    if session is None:
        return None
    if session.user.id.tenant_id not in services().settings.entra_allowed_tenants:
        log.warning("authz_fail", reason="tenant not allowed", user=str(session.user.id))
        if request.endpoint != SIGN_OUT:
            return None
    bind_user(session.user)
    caller = Caller(user=session.user, session=session)
    record_use(caller)
    return caller


def _check_csrf(session: Session) -> None:
    """Raises CsrfFailed for a wrong value, and for a foreign or null Origin whatever the value.

    Under /api also for a read that another site causes, since some count against the user's rate limit. Not
    on pages: a browser that comes back from signing in counts as sent by Entra ID's site.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        if is_api(request.path) and request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise CsrfFailed
        return
    public_url = services().settings.public_url
    value = request.headers.get("X-CSRFToken") or request.form.get("csrf_token", "")
    is_ours = current_app.extensions["csrf_signer"].verify_signature(session.key, value)
    if request.headers.get("Origin", public_url) != public_url or not is_ours:
        raise CsrfFailed


def _ask_to_sign_in() -> Response:
    if is_api(request.path):
        raise NotSignedIn
    if request.method in ("GET", "HEAD"):
        return redirect(url_for("auth.sign_in", next=request.full_path.rstrip("?")), 302)
    return redirect(url_for("auth.sign_in"), 303)
