"""The page on which users see and erase what is stored about them."""

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response

from trusted_service.web.http import lists
from trusted_service.web.http.context import actor, caller, services
from trusted_service.web.security.audiences import signed_in
from trusted_service.web.security.authentication import clear_cookie
from trusted_service.web.security.rate_limits import limit_account

bp = Blueprint("account", __name__, url_prefix="/account")

SESSIONS = 50  # on a page


@bp.get("")
@signed_in
def account() -> str:
    user_id = caller().user.id
    sessions, place = services().sessions.page(user_id, after=lists.read_cursor(), limit=SESSIONS)
    return render_template(
        "account/account.html",
        user=services().identities.find(user_id),
        sessions=sessions,
        next=lists.sign_cursor(place),
        own_session=caller().session,
        done=request.args.get("done"),
    )


@bp.post("/end-session")
@signed_in
@limit_account
def end_session() -> Response:
    """End the session that the form names, or all but this one."""
    user_id, own = caller().user.id, caller().session
    if chosen := request.form.get("session"):
        services().administration.end_session(actor(), user_id, chosen)
    elif own is not None:
        services().administration.end_other_sessions(actor(), user_id, own)
    return redirect("/account?done=end-session", 303)


@bp.post("/revoke")
@signed_in
@limit_account
def revoke() -> Response:
    services().administration.revoke_own(actor(), caller().user.id)
    return redirect("/account?done=revoke", 303)


@bp.get("/delete")
@signed_in
def confirm_delete() -> str:
    return render_template("account/delete.html")


@bp.post("/delete")
@signed_in
@limit_account
def delete() -> Response:
    """Erase everything about the caller, which also signs them out."""
    services().administration.delete(actor(), caller().user.id)
    response = redirect("/", 303)
    clear_cookie(response)
    return response
