"""The end-session endpoint with front-channel logout.

OpenID Connect RP-Initiated Logout 1.0 and Front-Channel Logout 1.0;
learn.microsoft.com/entra/identity-platform/v2-protocols-oidc#send-a-sign-out-request.
"""

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue

from local_azure.entra.authorize import COOKIE
from local_azure.entra.browsers import EntraSession
from local_azure.entra.service import EntraId, get_entra
from local_azure.entra.tokens import read_login_hint

bp = Blueprint("logout", __name__)

LONG_AGO_SECONDS = 10 * 365 * 24 * 3600


@bp.route("/<tenant>/oauth2/v2.0/logout", methods=["GET", "POST"], endpoint="logout")
def end_session(tenant: str) -> ResponseReturnValue:
    """End Entra ID's session in this browser, notify the apps that used it, and redirect the browser."""
    entra = get_entra()
    entra.check_tenant(tenant)
    parameters = request.values.to_dict()
    username = _read_username(entra, parameters.get("logout_hint", ""), parameters.get("id_token_hint", ""))
    ended = entra.browsers.leave(request.cookies.get(COOKIE, ""), username)
    frames = list(_list_frames(entra, ended))
    target = _find_target(entra, parameters)
    if target is not None and not frames:
        return redirect(target, HTTPStatus.FOUND)
    return render_template("entra/signed_out.html", frames=frames, target=target)


def _read_username(entra: EntraId, logout_hint: str, id_token_hint: str) -> str | None:
    """Return the account whose session to end, or None for all sessions of this browser."""
    if logout_hint:
        return read_login_hint(logout_hint)
    if id_token_hint:
        try:
            # An expired ID token still names the user.
            claims = entra.keys.read(id_token_hint, audiences=None, leeway=LONG_AGO_SECONDS)
        except ValueError:
            return None
        return str(claims.get("preferred_username"))
    return None


def _list_frames(entra: EntraId, ended: Iterable[EntraSession]) -> Iterable[str]:
    """Return the front-channel logout URL of each app in each ended session."""
    for session in ended:
        account = entra.directory.find(session.username)
        for client_id in sorted(session.client_ids):
            app = entra.registrations.find(client_id)
            if app is None or account is None or not app.front_channel_logout_url:
                continue
            separator = "&" if "?" in app.front_channel_logout_url else "?"
            query = urlencode({"sid": session.sid, "iss": entra.tokens.name_issuer(account.tenant_id)})
            yield f"{app.front_channel_logout_url}{separator}{query}"


def _find_target(entra: EntraId, parameters: dict[str, str]) -> str | None:
    """Return the URL to redirect to, or None without a registered redirect URI."""
    uri = parameters.get("post_logout_redirect_uri", "")
    if not any(app.allows_redirect(uri) for app in (entra.registrations.web, entra.registrations.spa)):
        return None
    state = parameters.get("state")
    if state is None:
        return uri
    separator = "&" if "?" in uri else "?"
    return f"{uri}{separator}{urlencode({'state': state})}"
