"""The authorization endpoint: an account picker instead of passwords.

learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow; RFC 7636 for PKCE.
"""

from http import HTTPStatus

from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from local_azure.entra.authorization import AuthorizationRequest, RedirectedError, read_authorization
from local_azure.entra.browsers import EntraSession
from local_azure.entra.errors import EntraError, PageError
from local_azure.entra.grants import CODE_SECONDS, Grant
from local_azure.entra.service import EntraId, get_entra

bp = Blueprint("authorize", __name__)

COOKIE = "local-entra-browser"


@bp.route("/<tenant>/oauth2/v2.0/authorize", methods=["GET", "POST"], endpoint="authorize")
def authorize(tenant: str) -> ResponseReturnValue:
    """Show the account picker, or send the browser back to the app with a code or an error.

    A request may use GET or POST; a POST with `account` or `cancel` comes from the picker.
    """
    entra = get_entra()
    parameters = request.values.to_dict()
    try:
        asked = read_authorization(entra, entra.check_tenant(tenant), parameters)
        if "cancel" in request.form:
            raise RedirectedError(
                asked,
                EntraError("access_denied", 65004, "User declined to consent to access the app."),
                {"error_subcode": "cancel"},
            )
        if "account" in request.form:
            return _grant(entra, asked, request.form["account"])
        if asked.prompt == "none":
            return _grant(entra, asked, _find_silent_session(entra, asked).username)
    except RedirectedError as error:
        return _send_back(error.asked, error.error.to_redirect() | error.extra)
    except EntraError as error:
        return render_template("entra/error.html", error=error), HTTPStatus.BAD_REQUEST
    accounts = [account for account in entra.directory.list() if account.enabled]
    accounts.sort(key=lambda account: account.username != asked.login_hint)
    hidden = {name: value for name, value in parameters.items() if name not in {"account", "cancel"}}
    return render_template("entra/picker.html", app=asked.app, accounts=accounts, hidden=hidden)


def _grant(entra: EntraId, asked: AuthorizationRequest, username: str) -> Response:
    """Sign the account in to this browser and send the app its code."""
    try:
        account = entra.get_account(username, asked.tenant)
    except EntraError as error:
        # Like Entra ID, tell the user, not the app.
        raise PageError(error.code, str(error).partition(": ")[2]) from error
    cookie, session = entra.browsers.join(
        request.cookies.get(COOKIE, ""), account.username, asked.app.client_id
    )
    code = entra.codes.add(
        Grant(
            client_id=asked.app.client_id,
            username=account.username,
            scopes=asked.scopes,
            sid=session.sid,
            redirect_uri=asked.redirect_uri,
            nonce=asked.nonce,
            challenge=asked.challenge,
            challenge_method=asked.challenge_method,
        ),
        CODE_SECONDS,
    )
    response = _send_back(asked, {"code": code, "session_state": session.sid})
    response.set_cookie(COOKIE, cookie, httponly=True, samesite="Lax")
    return response


def _find_silent_session(entra: EntraId, asked: AuthorizationRequest) -> EntraSession:
    """Return the session for a request with `prompt=none`. Raises RedirectedError unless one matches."""
    sessions = entra.browsers.list_sessions(request.cookies.get(COOKIE, ""))
    if asked.login_hint:
        sessions = [session for session in sessions if session.username == asked.login_hint]
    if not sessions:
        raise RedirectedError(
            asked,
            EntraError(
                "login_required", 50058, "A silent sign-in request was sent but no user is signed in."
            ),
        )
    if len(sessions) > 1:
        raise RedirectedError(
            asked,
            EntraError(
                "interaction_required",
                16000,
                "Either multiple user identities are available for the current request or selected account is"
                " not supported for the scenario.",
            ),
        )
    return sessions[0]


def _send_back(asked: AuthorizationRequest, response: dict[str, str]) -> Response:
    """Send the response to the app in the requested way."""
    if asked.state is not None:
        response["state"] = asked.state
    if asked.response_mode == "form_post":
        page = render_template("entra/form_post.html", action=asked.redirect_uri, fields=response)
        return make_response(page)
    return make_response(redirect(asked.build_redirect(response), HTTPStatus.FOUND))
