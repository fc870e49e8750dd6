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
from local_azure.entra.refusals import raise_planted_refusal
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
        auth_request = read_authorization(entra, entra.check_tenant(tenant), parameters)
        if "cancel" in request.form:
            raise RedirectedError(
                auth_request,
                EntraError("access_denied", 65004, "User declined to consent to access the app."),
                {"error_subcode": "cancel"},
            )
        if "account" in request.form:
            try:
                raise_planted_refusal()
            except EntraError as error:
                raise RedirectedError(auth_request, error) from error
            return _grant(entra, auth_request, request.form["account"])
        if auth_request.prompt == "none":
            return _grant(entra, auth_request, _find_silent_session(entra, auth_request).username)
    except RedirectedError as error:
        return _send_back(error.auth_request, error.error.to_redirect() | error.extra)
    except EntraError as error:
        return render_template("entra/error.html", error=error), HTTPStatus.BAD_REQUEST
    accounts = [account for account in entra.directory.list() if account.enabled]
    accounts.sort(key=lambda account: account.username != auth_request.login_hint)
    hidden = {name: value for name, value in parameters.items() if name not in {"account", "cancel"}}
    return render_template("entra/picker.html", app=auth_request.app, accounts=accounts, hidden=hidden)


def _grant(entra: EntraId, auth_request: AuthorizationRequest, username: str) -> Response:
    """Sign the account in to this browser and send the app its code."""
    try:
        account = entra.get_account(username, auth_request.tenant)
    except EntraError as error:
        # Like Entra ID, tell the user, not the app.
        raise PageError(error.code, str(error).partition(": ")[2]) from error
    cookie, session = entra.browsers.join(
        request.cookies.get(COOKIE, ""), account.username, auth_request.app.client_id
    )
    code = entra.codes.add(
        Grant(
            client_id=auth_request.app.client_id,
            username=account.username,
            scopes=auth_request.scopes,
            sid=session.sid,
            redirect_uri=auth_request.redirect_uri,
            nonce=auth_request.nonce,
            challenge=auth_request.challenge,
            challenge_method=auth_request.challenge_method,
        ),
        CODE_SECONDS,
    )
    response = _send_back(auth_request, {"code": code, "session_state": session.sid})
    response.set_cookie(COOKIE, cookie, httponly=True, samesite="Lax")
    return response


def _find_silent_session(entra: EntraId, auth_request: AuthorizationRequest) -> EntraSession:
    """Return the session for a request with `prompt=none`. Raises RedirectedError unless one matches."""
    sessions = entra.browsers.list_sessions(request.cookies.get(COOKIE, ""))
    if auth_request.login_hint:
        sessions = [session for session in sessions if session.username == auth_request.login_hint]
    if not sessions:
        raise RedirectedError(
            auth_request,
            EntraError(
                "login_required", 50058, "A silent sign-in request was sent but no user is signed in."
            ),
        )
    if len(sessions) > 1:
        raise RedirectedError(
            auth_request,
            EntraError(
                "interaction_required",
                16000,
                "Either multiple user identities are available for the current request or selected account is"
                " not supported for the scenario.",
            ),
        )
    return sessions[0]


def _send_back(auth_request: AuthorizationRequest, response: dict[str, str]) -> Response:
    """Send the response to the app in the requested way."""
    if auth_request.state is not None:
        response["state"] = auth_request.state
    if auth_request.response_mode == "form_post":
        page = render_template("entra/form_post.html", action=auth_request.redirect_uri, fields=response)
        return make_response(page)
    return make_response(redirect(auth_request.build_redirect(response), HTTPStatus.FOUND))
