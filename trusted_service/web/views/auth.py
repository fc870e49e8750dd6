"""Sign-in and sign-out of browsers, and tokens for Microsoft Teams by a second trip to Entra ID."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from flask import Blueprint, g, render_template, request, url_for
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from trusted_service.entra.refusals import read_refusal
from trusted_service.entra.sign_in import MAX_TEXT_LENGTH, SignedIn
from trusted_service.entra.tokens import TEAMS_SCOPE_NAMES, TEAMS_SCOPES
from trusted_service.errors import (
    ConsentRefused,
    NotSignedIn,
    OtherUser,
    SignInFailed,
    TeamsNotGranted,
    UpstreamError,
)
from trusted_service.models import rfc3339
from trusted_service.texts import display_text
from trusted_service.web.http import context
from trusted_service.web.http.context import caller, optional_caller, services
from trusted_service.web.security import authentication, sign_in_state
from trusted_service.web.security.audiences import public, signed_in, visitor
from trusted_service.web.security.rate_limits import limit_logouts, limit_sign_ins, limit_tokens, limiter

log = structlog.get_logger(__name__)

bp = Blueprint("auth", __name__, url_prefix="/auth")

CALLBACK_PARAMETERS = ("state", "code", "error", "error_description", "error_uri", "admin_consent")
ACCOUNT_CHOICE = "select_account"


@bp.get("/sign-in")
@public
@limit_sign_ins
def sign_in() -> Response:
    """Send the browser to Entra ID; first to PUBLIC_URL if it is elsewhere, where our cookies do not fit."""
    target = sign_in_state.next_path(request.args.getlist("next"))
    prompt = ACCOUNT_CHOICE if request.args.getlist("prompt") == [ACCOUNT_CHOICE] else None
    # Behind a proxy that hides the browser's address it stays wrong: `moved` ends what would be a loop.
    if not context.is_at_public_url() and "moved" not in request.args:
        following = None if target == sign_in_state.HOME else target
        again = url_for("auth.sign_in", next=following, prompt=prompt, moved=1)
        return redirect(services().settings.public_url + again, 302)
    return _send_to_entra("sign-in", target, prompt=prompt)


@bp.get("/teams")
@signed_in
@limit_sign_ins
@limit_tokens
def start_teams() -> Response:
    """Send a signed-in user to Entra ID once more, for a token for Teams."""
    user, session = caller().user, caller().session
    hint = (session.login_hint if session else None) or user.username or None
    return _send_to_entra("teams", sign_in_state.HOME, scopes=TEAMS_SCOPES, login_hint=hint)


def _send_to_entra(
    purpose: sign_in_state.Purpose, target: str, *, scopes: Sequence[str] = (), **options: str | None
) -> Response:
    redirect_uri = services().settings.public_url + "/auth/callback"
    url, flow = services().entra.start(redirect_uri, scopes=scopes, **options)
    response = redirect(url, 302)
    sign_in_state.keep(response, {"flow": flow, "next": target, "purpose": purpose})
    return response


@bp.get("/callback")
@visitor
@limit_sign_ins
def callback() -> Response | str:
    """Take the browser back from Entra ID. Unless a parameter is repeated, the flow is used up."""
    parameters = {name: request.args.getlist(name) for name in CALLBACK_PARAMETERS}
    if any(len(values) > 1 for values in parameters.values()):
        raise SignInFailed("repeated-parameter")
    given = {name: "".join(values) for name, values in parameters.items()}
    refusal = read_refusal(given) if parameters["error"] else None
    is_consent = parameters["admin_consent"] or (given["error"], given["state"]) == ("permission_denied", "")
    if is_consent and not parameters["code"]:
        # An administrator has consented or not, which was not begun here:
        # https://learn.microsoft.com/entra/identity-platform/v2-admin-consent
        if refusal or given["admin_consent"].lower() != "true":
            raise ConsentRefused("admin-consent", refusal.details if refusal else None)
        return render_template("pages/consent.html")
    flow, caller = sign_in_state.flow_name(given["state"]), optional_caller()
    try:
        kept = sign_in_state.take(given["state"])
    except SignInFailed as failed:
        if caller is not None and caller.session is not None and caller.session.flow == flow:
            return redirect(sign_in_state.HOME, 302)  # the page was loaded again
        if refusal is None:
            raise
        raise SignInFailed(failed.reason, refusal.details, refusal.cause) from None
    g.next = None if kept["next"] == sign_in_state.HOME else kept["next"]
    for_teams = kept["purpose"] == "teams"
    if refusal:
        failure = TeamsNotGranted if for_teams else SignInFailed
        raise failure(f"entra-{refusal.error}", refusal.details, refusal.cause)
    if not (code := given["code"]):
        raise SignInFailed("no-code")
    if for_teams and caller is None:
        raise NotSignedIn  # the session has ended meanwhile
    signed_in = services().entra.complete(kept["flow"], code)
    if for_teams:
        return _show_teams_token(signed_in, flow)
    return _start_session(signed_in, flow, kept["next"])


def _start_session(signed_in: SignedIn, flow: str, target: str) -> Response:
    context.bind_user(signed_in.user)
    caller = optional_caller()
    former = caller.session if caller else authentication.find_session()  # also of a refused tenant
    user_agent = display_text(request.headers.get("User-Agent"))
    session_id = services().access.sign_in(
        signed_in,
        instead_of=former,
        address=context.client_address(),
        user_agent=user_agent,
        flow=flow,
    )
    if former is not None:
        log.info("session_expired", user=str(former.user.id), reason="replaced")
    log.info("authn_login_success")
    log.info("session_created")
    services().administrators.record(signed_in.user, signed_in.issued_at)
    context.run_after_response(functools.partial(services().access.record_sign_in, signed_in.user))
    response = redirect(target, 302)
    authentication.set_cookie(response, session_id)
    return response


def _show_teams_token(signed_in: SignedIn, flow: str) -> str:
    """Exchange the token at once, show it on this one page, and store it nowhere. Raises OtherUser."""
    user_id = caller().user.id
    if signed_in.user.id != user_id:
        raise OtherUser
    token = services().access.exchange_teams_token(caller(), signed_in.access_token)
    if (session := caller().session) is not None:
        context.run_after_response(functools.partial(services().sessions.record_flow, session, flow))
    return render_template(
        "teams/token.html",
        token=token.token,
        expires_on=rfc3339(token.expires_on),
        now=rfc3339(datetime.now(UTC)),
        scopes=TEAMS_SCOPE_NAMES,
    )


@bp.post("/sign-out")
@visitor
@limiter.exempt
def sign_out() -> Response:
    """End the session here, on every instance, and then at Entra ID."""
    caller = optional_caller()
    session = caller.session if caller else None
    public_url = services().settings.public_url
    if session is None and request.headers.get("Origin") != public_url:
        return redirect("/", 303)  # another site's form comes without our cookie: it must not sign people out
    if session is not None:
        services().sessions.end(session.key)
        log.info("session_expired", reason="sign-out")
    login_hint = session.login_hint if session else None
    response = redirect(services().authority.sign_out_url(public_url + "/", login_hint), 303)
    authentication.clear_cookie(response)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@bp.get("/front-channel-logout", strict_slashes=False)
@public
@limit_logouts
def front_channel_logout() -> Response:
    """Entra ID calls this in a frame, without our cookie, when a user signs out elsewhere.

    https://openid.net/specs/openid-connect-frontchannel-1_0.html
    """
    entra_session_id = request.args.get("sid", "")
    if 0 < len(entra_session_id) <= MAX_TEXT_LENGTH:
        try:
            if ended := services().sessions.end_entra_session(entra_session_id):
                log.info("session_expired", reason="front-channel", sessions=ended)
        except UpstreamError as error:
            log.error("front_channel_logout_failed", reason=str(error))
    return Response(status=200)
