"""The administrators' pages: find users, see one, act on one."""

from uuid import UUID

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from trusted_service.errors import NotFound
from trusted_service.models import UserId
from trusted_service.representation import USER_MEMBERS, csv_lines, user_json
from trusted_service.storage.audit import AuditQuery
from trusted_service.web import user_search
from trusted_service.web.audience import administrator
from trusted_service.web.context import actor, services
from trusted_service.web.csv_response import csv_response

bp = Blueprint("admin", __name__, url_prefix="/admin")

USER = "/users/<uuid:tenant_id>/<uuid:object_id>"
TRAIL = 50
LONGEST_REASON = 300
ACTIONS = ("block", "unblock", "revoke", "sign-out", "delete")


@bp.get("/users")
@administrator
def users() -> str:
    query, place = user_search.read("q", "status", "tenant", "sort")
    page = services().directory.page(query, place)
    return render_template(
        "admin/users.html",
        page=page,
        former=query.text.startswith("8:") and [user.acs_user_id for user in page.users] != [query.text],
        query=query,
        next=user_search.next_cursor(query, page),
        tenants=services().settings.entra.allowed_tenants,
        done=request.args.get("done"),
    )


@bp.get("/users.csv")
@administrator
def users_csv() -> Response:
    """Every user, streamed."""
    with services().trail.action(actor(), "export", None):
        rows = (user_json(user).values() for user in services().lookup.all())
        return csv_response("users.csv", csv_lines(USER_MEMBERS, rows))


@bp.get(USER)
@administrator
def user(tenant_id: UUID, object_id: UUID) -> str:
    user_id = UserId(str(tenant_id), str(object_id))
    identity = services().lookup.find(user_id)
    if identity is None:
        raise NotFound
    events = services().audit.page(AuditQuery(target=user_id), after="", limit=TRAIL)
    return render_template(
        "admin/user.html",
        user=identity,
        former=services().history.former(identity),
        sessions=services().sessions.of_user(user_id),
        events=[event for _, event in events],
        done=request.args.get("done"),
    )


@bp.get(f"{USER}/confirm/<any({', '.join(repr(name) for name in ACTIONS)}):action>")
@administrator
def confirm(tenant_id: UUID, object_id: UUID, action: str) -> str:
    """Say what the action does, what of it cannot be undone, and ask."""
    user_id = UserId(str(tenant_id), str(object_id))
    return render_template(
        "admin/confirm.html", user_id=user_id, user=services().lookup.find(user_id), action=action
    )


@bp.post(f"{USER}/block")
@administrator
def block(tenant_id: UUID, object_id: UUID) -> BaseResponse:
    user_id = UserId(str(tenant_id), str(object_id))
    services().administration.block(actor(), user_id, request.form.get("reason", "")[:LONGEST_REASON].strip())
    return _back(user_id, "block")


@bp.post(f"{USER}/unblock")
@administrator
def unblock(tenant_id: UUID, object_id: UUID) -> BaseResponse:
    user_id = UserId(str(tenant_id), str(object_id))
    services().administration.unblock(actor(), user_id)
    return _back(user_id, "unblock")


@bp.post(f"{USER}/revoke")
@administrator
def revoke(tenant_id: UUID, object_id: UUID) -> BaseResponse:
    user_id = UserId(str(tenant_id), str(object_id))
    services().administration.revoke(actor(), user_id)
    return _back(user_id, "revoke")


@bp.post(f"{USER}/sign-out")
@administrator
def sign_out(tenant_id: UUID, object_id: UUID) -> BaseResponse:
    """End all sessions, or the one that the form names."""
    user_id = UserId(str(tenant_id), str(object_id))
    session = request.form.get("session", "")
    if session:
        services().administration.end_session(actor(), user_id, session)
        return _back(user_id, "end-session")
    services().administration.sign_out(actor(), user_id)
    return _back(user_id, "sign-out")


@bp.post(f"{USER}/delete")
@administrator
def delete(tenant_id: UUID, object_id: UUID) -> BaseResponse:
    user_id = UserId(str(tenant_id), str(object_id))
    services().administration.delete(actor(), user_id)
    return _back(user_id, "delete")


def _back(user_id: UserId, done: str) -> BaseResponse:
    """To the user's page with a message, or to the list where there is no such user any more."""
    if services().lookup.find(user_id) is None:
        return redirect(url_for("admin.users", done=done), 303)
    tenant_id, object_id = user_id
    return redirect(url_for("admin.user", tenant_id=tenant_id, object_id=object_id, done=done), 303)
