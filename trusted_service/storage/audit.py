"""The table `audit`: who did what to whom. Rows are added and never changed.

Each event stands twice, newest first: among all events (`all`), and among those about one user
(`user-…`), so that a user's trail is a range of keys.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from trusted_service.models import Actor, AuditEvent, UserId
from trusted_service.storage.tables import Columns, Row, Table, utc

LAST_MICROSECOND = 10**17
LONGEST_DETAIL = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditQuery:
    """Which events: by what happened, who did it, to whom, and from when until when."""

    action: str = ""
    actor_key: str = ""
    target: UserId | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditTable:
    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, event: AuditEvent) -> None:
        """Raises UpstreamError where the event could not be written everywhere it belongs."""
        row = f"{_descending(event.at)}-{uuid.uuid4().hex[:8]}"
        columns = _columns(event)
        if event.target is not None:
            self._table.put({"PartitionKey": _partition(event.target), "RowKey": row, **columns})
        self._table.put({"PartitionKey": "all", "RowKey": row, **columns})

    def page(self, query: AuditQuery, *, after: str, limit: int) -> list[tuple[str, AuditEvent]]:
        """Up to `limit` events, the newest first, each with the place at which a next page goes on."""
        partition = "all" if query.target is None else _partition(query.target)
        named = {"Action": query.action, "ActorKey": query.actor_key}
        # Smaller keys are later: `until` is where to begin, and `since` where to end.
        begin = _descending(query.until) if query.until else ""
        rows = self._table.range(
            partition,
            after=max(after, begin),
            below=f"{_descending(query.since)}." if query.since else "",
            limit=limit,
            equal={column: value for column, value in named.items() if value},
        )
        return [(str(row["RowKey"]), _event(row)) for row in rows]

    def all(self, query: AuditQuery) -> Iterator[AuditEvent]:
        """Every event of the query, the newest first, a few hundred in memory at a time."""
        after = ""
        while page := self.page(query, after=after, limit=500):
            yield from (event for _, event in page)
            after = page[-1][0]


def _partition(user_id: UserId) -> str:
    return f"user-{user_id.object_id}-{user_id.tenant_id}"


def _descending(moment: datetime) -> str:
    return f"{LAST_MICROSECOND - int(moment.timestamp() * 1_000_000):017d}"


def _columns(event: AuditEvent) -> Columns:
    return {
        "ActionId": event.action_id,
        "At": event.at,
        "ActorKind": event.actor.kind,
        "ActorKey": event.actor.key,
        "ActorName": event.actor.name,
        "Action": event.action,
        "TargetTenantId": event.target.tenant_id if event.target else "",
        "TargetObjectId": event.target.object_id if event.target else "",
        "Outcome": event.outcome,
        "Detail": event.detail[:LONGEST_DETAIL],
        "RequestId": event.request_id,
    }


def _event(row: Row) -> AuditEvent:
    has_target = bool(row["TargetObjectId"])
    return AuditEvent(
        action_id=row["ActionId"],
        at=utc(row["At"]),
        actor=Actor(kind=row["ActorKind"], key=row["ActorKey"], name=row["ActorName"]),
        action=row["Action"],
        target=UserId.parse(row["TargetTenantId"], row["TargetObjectId"]) if has_target else None,
        outcome=row["Outcome"],
        detail=row["Detail"],
        request_id=row["RequestId"],
    )
