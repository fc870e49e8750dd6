"""The page on which people see and end what this service has of theirs."""

from flask import Blueprint, g, redirect, render_template, request
from werkzeug.wrappers import Response

from trusted_service.web import browser_session
from trusted_service.web.audience import signed_in
from trusted_service.web.context import actor, caller, services

bp = Blueprint("account", __name__, url_prefix="/account")


@bp.get("")
@signed_in
def account() -> str:
    user_id = caller().user.id
    return render_template(
        "account/account.html",
        user=services().lookup.find(user_id),
        sessions=services().sessions.of_user(user_id),
        own_session=caller().session,
        done=request.args.get("done"),
    )


@bp.post("/end-session")
@signed_in
def end_session() -> Response:
    """End the session that the form names, or all but this one."""
    mine = caller().session
    chosen = request.form.get("session", "")
    for session in services().sessions.of_user(caller().user.id):
        row_key = session.key.split("/")[1]
        if row_key == chosen or (not chosen and mine is not None and session.key != mine.key):
            services().administration.end_session(actor(), caller().user.id, row_key)
    return redirect("/account?done=end-session", 303)


@bp.post("/revoke")
@signed_in
def revoke() -> Response:
    services().administration.revoke_own(actor(), caller().user.id)
    return redirect("/account?done=revoke", 303)


@bp.get("/delete")
@signed_in
def confirm_delete() -> str:
    return render_template("account/delete.html")


@bp.post("/delete")
@signed_in
def delete() -> Response:
    """Erase everything about the caller, which also signs them out."""
    services().administration.delete(actor(), caller().user.id)
    g.session_ended = True
    response = redirect("/", 303)
    browser_session.clear_cookie(response)
    return response
