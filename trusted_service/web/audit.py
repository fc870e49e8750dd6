"""The audit trail as a page and as CSV."""

from datetime import UTC, datetime, timedelta

from flask import Blueprint, Response, render_template, request

from trusted_service.errors import InvalidRequest
from trusted_service.models import UserId
from trusted_service.representation import EVENT_MEMBERS, csv_lines, event_json
from trusted_service.storage.audit import AuditQuery
from trusted_service.web import cursor
from trusted_service.web.audience import administrator
from trusted_service.web.context import actor, services
from trusted_service.web.csv_response import csv_response

bp = Blueprint("audit", __name__, url_prefix="/admin")

PAGE = 50
FILTERS = ("action", "actor", "target", "since", "until")
FIRST_DAY, LAST_DAY = datetime(1970, 1, 2, tzinfo=UTC), datetime(2999, 12, 31, tzinfo=UTC)
ACTIONS = (
    "block",
    "unblock",
    "revoke",
    "sign-out",
    "end-session",
    "delete",
    "export",
    "import",
    "start-job",
    "cancel-job",
    "identity-created",
    "identity-replaced",
    "identity-moved",
    "restore",
    "move-resource",
)


@bp.get("/audit")
@administrator
def audit() -> str:
    """Who did what to whom, the newest first."""
    query = _query()
    rows = services().audit.page(query, after=cursor.unwrap(request.args.get("cursor", "")), limit=PAGE + 1)
    place = rows[PAGE - 1][0] if len(rows) > PAGE else None
    return render_template(
        "admin/audit.html",
        events=[event for _, event in rows[:PAGE]],
        next=cursor.wrap(place),
        query=query,
        actions=ACTIONS,
        filters={
            name: request.args.get(name, "") for name in ("action", "actor", "target", "since", "until")
        },
    )


@bp.get("/audit.csv")
@administrator
def audit_csv() -> Response:
    """The events that the filters leave, streamed."""
    query = _query()
    with services().trail.action(actor(), "export", None, "audit"):
        rows = (event_json(event).values() for event in services().audit.all(query))
        return csv_response("audit.csv", csv_lines(EVENT_MEMBERS, rows))


def _query() -> AuditQuery:
    """Raises InvalidRequest for a target that is not a user id, or a day that is none."""
    target = request.args.get("target", "").strip()
    until = _day("until")
    return AuditQuery(
        action=request.args.get("action", ""),
        actor_key=request.args.get("actor", "").strip(),
        target=_user_id(target) if target else None,
        since=_day("since"),
        until=until + timedelta(days=1) if until else None,
    )


def _user_id(text: str) -> UserId:
    tenant_id, _, object_id = text.partition("/")
    try:
        return UserId.parse(tenant_id, object_id)
    except ValueError as error:
        raise InvalidRequest("target must be <tenant id>/<object id>.") from error


def _day(name: str) -> datetime | None:
    """Midnight in UTC at the beginning of the day that the parameter names, as `2026-01-31`."""
    text = request.args.get(name, "")
    if not text:
        return None
    try:
        return min(max(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC), FIRST_DAY), LAST_DAY)
    except ValueError as error:
        raise InvalidRequest(f"{name} must be a day such as 2026-01-31.") from error
