"""The administrators' pages: find users, see one, act on one."""

import contextlib
from uuid import UUID

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from trusted_service.audit import AuditQuery
from trusted_service.errors import OwnAccount, UpstreamError
from trusted_service.models import MAX_REASON, UserId
from trusted_service.representation import user_json
from trusted_service.users.actions import ACTIONS, LAST_ADMINISTRATOR
from trusted_service.web.http import lists
from trusted_service.web.http.context import actor, services
from trusted_service.web.openapi.models import User
from trusted_service.web.security.audiences import administrator
from trusted_service.web.security.rate_limits import limit_administration, limit_exports

bp = Blueprint("admin", __name__, url_prefix="/admin")

USER = "/users/<uuid:tenant_id>/<uuid:object_id>"
ACTION = f"<any({', '.join(repr(name) for name in ACTIONS)}):action>"


@bp.get("/users")
@administrator
def users() -> str:
    query, place = lists.read_user_query("q", "status", "tenant", "sort")
    page = services().directory.page(query, place)
    return render_template(
        "admin/users.html",
        page=page,
        former=query.text.startswith("8:") and [user.acs_user_id for user in page.users] != [query.text],
        query=query,
        next=lists.next_user_cursor(query, page),
        tenants=services().settings.entra_allowed_tenants,
        done=request.args.get("done"),
    )


@bp.get("/users.csv")
@administrator
@limit_exports
def users_csv() -> Response:
    """Every user, streamed."""
    rows = (user_json(user).values() for user in services().identities.all())
    return lists.export_csv("users.csv", User.members(), rows)


@bp.get(USER)
@administrator
def user(tenant_id: UUID, object_id: UUID) -> str:
    user_id = UserId(str(tenant_id), str(object_id))
    identity = services().identities.get(user_id)
    sessions, place = services().sessions.page(user_id, after=lists.read_cursor(), limit=50)
    events = [event for _, event in services().audit.page(AuditQuery(target=user_id), limit=50)]
    return render_template(
        "admin/user.html",
        user=identity,
        former=services().ledger.former(identity),
        sessions=sessions,
        next=lists.sign_cursor(place),
        events=events,
        names=services().actor_names.find(event.actor for event in events),
        done=request.args.get("done"),
    )


@bp.get(f"{USER}/confirm/{ACTION}")
@administrator
def confirm(tenant_id: UUID, object_id: UUID, action: str) -> str:
    """Explain the action and what of it cannot be undone, and ask; twice for the last administrator."""
    user_id, ends_access = UserId(str(tenant_id), str(object_id)), ACTIONS[action].ends_access
    if ends_access and str(user_id) == actor().key:
        raise OwnAccount("yourself")
    is_last = ends_access and services().administrators.is_last(actor(), user_id)
    user = services().identities.find(user_id)
    values = {"user_id": user_id, "user": user, "action": ACTIONS[action], "max_reason": MAX_REASON}
    return render_template("admin/confirm.html", **values, twice=LAST_ADMINISTRATOR if is_last else None)


@bp.post(f"{USER}/{ACTION}")
@administrator
@limit_administration
def act(tenant_id: UUID, object_id: UUID, action: str) -> BaseResponse:
    """Do the action, then show the user, or the list where the user is gone. A form may end one session."""
    user_id = UserId(str(tenant_id), str(object_id))
    session = request.form.get("session", "")
    if action == "sign-out" and session:
        services().administration.end_session(actor(), user_id, session)
        action = "end-session"
    else:
        reason, confirmed = request.form.get("reason", ""), request.form.get("confirm") == LAST_ADMINISTRATOR
        ACTIONS[action].run(services().administration, actor(), user_id, reason=reason, confirmed=confirmed)
    is_gone = action == "delete"
    with contextlib.suppress(UpstreamError):  # the action is done, even if this read fails
        is_gone = services().identities.find(user_id) is None
    if is_gone:
        return redirect(url_for("admin.users", done=action), 303)
    return redirect(url_for("admin.user", **user_id._asdict(), done=action), 303)
