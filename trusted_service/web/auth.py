"""Sign-in and sign-out of browsers."""

import functools
import re

import structlog
from flask import Blueprint, g, request
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from trusted_service.entra.sign_in import LONGEST_TEXT
from trusted_service.errors import SignInFailed, TeamsNotGranted, UpstreamError
from trusted_service.models import SessionOrigin, display_text
from trusted_service.web import browser_session, sign_in_flows, teams
from trusted_service.web.audience import public, signed_in, visitor
from trusted_service.web.context import note_user, optional_caller, services
from trusted_service.web.limits import client_address, limit_sign_ins, limit_tokens
from trusted_service.web.next_path import HOME, next_path
from trusted_service.web.sign_in_flows import KeptFlow

log = structlog.get_logger(__name__)

bp = Blueprint("auth", __name__, url_prefix="/auth")

CALLBACK_PARAMETERS = ("state", "code", "error", "error_description", "error_uri")


@bp.get("/sign-in")
@public
@limit_sign_ins
def sign_in() -> Response:
    """Send the browser to Entra ID. Each tab has a flow of its own, so that all of them end signed in."""
    target = next_path(request.args.getlist("next"))
    url, flow = services().entra.start(_redirect_uri())
    response = redirect(url, 302)
    sign_in_flows.keep(response, KeptFlow(flow, "sign-in", target))
    return response


@bp.get("/teams")
@signed_in
@limit_sign_ins
@limit_tokens
def start_teams() -> Response:
    """Send somebody who is signed in to Entra ID once more, for a token for Teams."""
    url, flow = teams.start(_redirect_uri())
    response = redirect(url, 302)
    sign_in_flows.keep(response, KeptFlow(flow, "teams", HOME))
    return response


@bp.get("/callback")
@visitor
@limit_sign_ins
def callback() -> Response | str:
    """Take the browser back from Entra ID. Whatever comes of it, the flow is used up."""
    parameters = {name: request.args.getlist(name) for name in CALLBACK_PARAMETERS}
    if any(len(values) > 1 for values in parameters.values()):
        raise SignInFailed("repeated-parameter")
    kept = sign_in_flows.take(parameters["state"][0] if parameters["state"] else "")
    if parameters["error"]:
        reason = f"entra-{_word(parameters['error'][0])}"
        raise SignInFailed(reason) if kept.purpose == "sign-in" else TeamsNotGranted(reason)
    if not any(parameters["code"]):
        raise SignInFailed("no-code")
    code = parameters["code"][0]
    return teams.finish(kept.flow, code) if kept.purpose == "teams" else _sign_in(kept, code)


def _sign_in(kept: KeptFlow, code: str) -> Response:
    person = services().entra.complete(kept.flow, code)
    note_user(person.user)
    before = optional_caller()
    origin = SessionOrigin(
        address=client_address(), user_agent=display_text(request.headers.get("User-Agent"))
    )
    session_id = services().access.sign_in(
        person, instead_of=None if before is None else before.session, origin=origin
    )
    g.session_ended = True
    if before is not None and before.session is not None:
        log.info("session_expired", user=str(before.user.id), reason="replaced")
    log.info("authn_login_success")
    log.info("session_created")
    response = redirect(kept.target, 302)
    browser_session.set_cookie(response, session_id)
    browser_session.afterwards(response, functools.partial(services().access.note_sign_in, person.user))
    return response


@bp.post("/sign-out")
@visitor
def sign_out() -> Response:
    """End the session here, on every instance, and then at Entra ID."""
    caller = optional_caller()
    session = None if caller is None else caller.session
    public_url = services().settings.public_url
    if session is None and request.headers.get("Origin") != public_url:
        return redirect("/", 303)  # another site's form comes without our cookie: it must not sign people out
    if session is not None:
        services().access.sign_out(session)
        g.session_ended = True
        log.info("session_expired", reason="sign-out")
    login_hint = None if session is None else session.login_hint
    response = redirect(services().entra.sign_out_url(public_url + "/", login_hint), 303)
    browser_session.clear_cookie(response)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@bp.get("/front-channel-logout")
@public
def front_channel_logout() -> Response:
    """Entra ID calls this in a frame, without our cookie, when a person signs out elsewhere.

    https://openid.net/specs/openid-connect-frontchannel-1_0.html
    """
    entra_session_id = request.args.get("sid", "")
    if 0 < len(entra_session_id) <= LONGEST_TEXT:
        try:
            ended = services().access.end_entra_session(entra_session_id)
            log.info("session_expired", reason="front-channel", sessions=ended)
        except UpstreamError as error:
            log.error("front_channel_logout_failed", reason=str(error))
    return Response(status=200)


def _redirect_uri() -> str:
    return services().settings.public_url + "/auth/callback"


def _word(value: str) -> str:
    return re.sub(r"[^a-z_]", "", value[:40]) or "error"
