"""The audit trail as a page and as CSV."""

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from flask import Blueprint, Response, render_template, request

from trusted_service.audit import EVENTS, AuditQuery
from trusted_service.errors import InvalidRequest
from trusted_service.models import AuditEvent, UserId
from trusted_service.representation import event_json
from trusted_service.users.actor_names import ActorNames
from trusted_service.web.http import lists
from trusted_service.web.http.context import services
from trusted_service.web.security.audiences import administrator
from trusted_service.web.security.rate_limits import limit_exports

bp = Blueprint("audit", __name__, url_prefix="/admin")

PAGE = 50
HEADER = ("at", "action", "outcome", "actorKind", "actor", "actorName", "target", "detail", "requestId")
FILTERS = ("action", "actor", "target", "since", "until")
FIRST_DAY, LAST_DAY = datetime(1970, 1, 2, tzinfo=UTC), datetime(2999, 12, 31, tzinfo=UTC)


@bp.get("/audit")
@administrator
def audit() -> str:
    """The events that the filters leave, the newest first."""
    query = _query()
    rows = services().audit.page(query, after=lists.read_cursor(), limit=PAGE + 1)
    events = [event for _, event in rows[:PAGE]]
    return render_template(
        "admin/audit.html",
        events=events,
        names=services().actor_names.find(event.actor for event in events),
        next=lists.sign_cursor(rows[PAGE - 1][0] if len(rows) > PAGE else None),
        actions=EVENTS,
        filters={name: request.args.get(name, "") for name in FILTERS},
    )


@bp.get("/audit.csv")
@administrator
@limit_exports
def audit_csv() -> Response:
    """The same events, streamed."""
    rows = _cells(services().audit.all(_query()), services().actor_names)
    return lists.export_csv("audit.csv", HEADER, rows, detail="audit")


def _cells(events: Iterator[AuditEvent], actor_names: ActorNames) -> Iterator[Iterable[object]]:
    names: dict[str, str] = {}  # "" too: a storage that fails is not asked again for the same actor
    while some := list(itertools.islice(events, lists.CHUNK)):
        names |= actor_names.find(event.actor for event in some if event.actor.key not in names)
        for event in some:
            document = event_json(event) | {"actorName": names.get(event.actor.key, "")}
            yield [document[name] for name in HEADER]


def _query() -> AuditQuery:
    """Raises InvalidRequest for a target that is no user id, or an invalid day."""
    target, until = request.args.get("target", "").strip(), _day("until")
    tenants = services().settings.entra_allowed_tenants
    try:
        user_id = UserId.parse_key(target, tenants) if target else None
    except ValueError as error:
        raise InvalidRequest("target must be <tenant id>/<object id>.") from error
    return AuditQuery(
        action=request.args.get("action", ""),
        actor_key=request.args.get("actor", "").strip(),
        target=user_id,
        since=_day("since"),
        until=until + timedelta(days=1) if until else None,
    )


def _day(name: str) -> datetime | None:
    """Midnight in UTC at the beginning of the day in the parameter, such as `2026-01-31`."""
    text = request.args.get(name, "")
    if not text:
        return None
    try:
        return min(max(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC), FIRST_DAY), LAST_DAY)
    except ValueError as error:
        raise InvalidRequest("A day must have the form 2026-01-31.") from error
