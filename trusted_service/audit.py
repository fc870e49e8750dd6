"""The audit trail. An action whose start cannot be recorded does not run.

Table `audit`: rows are added; only an erasure changes them. Each event has two rows, newest first: one among
all events (partition `all`) and one among those about its user (`user-…`), so that a user's events are a
range of keys. The outcome of an administrator's action has a third (`actor-…`), without the user, for their
export.
"""

import heapq
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from trusted_service.azure import deadlines
from trusted_service.errors import TrustedServiceError, UpstreamError
from trusted_service.models import Actor, AuditEvent, UserId
from trusted_service.storage.tables import RowChanged, Table, utc
from trusted_service.storage.transactions import Columns, batches, merge_operation
from trusted_service.texts import join_lines, without_acs_user_ids

log = structlog.get_logger(__name__)

OUTCOME_SECONDS = 2.0
"""Time for writing the outcome, even when the request's own time is over."""
ALL = "all"
LAST_MICROSECOND = 10**17
MAX_DETAIL = 500

EVENTS = {
    "block": "user_updated",
    "unblock": "user_updated",
    "revoke": "authn_token_revoked",
    "sign-out": "session_expired",
    "end-session": "session_expired",
    "delete": "user_deleted",
    "export": "sensitive_read",
    "import": "authz_admin",
    "start-job": "authz_admin",
    "cancel-job": "authz_admin",
    "identity-created": "user_created",
    "identity-replaced": "user_updated",
    "identity-moved": "user_updated",
    "restore": "user_updated",
    "move-resource": "authz_admin",
}
"""Every action of the audit trail, with the name of its log event in OWASP's vocabulary (see `logs`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditQuery:
    """Which events: by action, actor, target, and from when until when."""

    action: str = ""
    actor_key: str = ""
    target: UserId | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditTrail:
    def __init__(self, table: Table) -> None:
        self._table = table

    @contextmanager
    def action(self, actor: Actor, action: str, target: UserId | None, detail: str = "") -> Iterator[None]:
        """Record the start, then the outcome. An action whose start cannot be recorded does not run.

        One that is interrupted has failed: a stream whose reader has gone ends with GeneratorExit. An error's
        notes become part of the detail.
        """
        started = _new_event(actor, action, target, detail)
        self._add(started)
        try:
            yield
        except BaseException as error:
            reason = str(error) if isinstance(error, TrustedServiceError) else type(error).__name__
            reason = reason if isinstance(error, Exception) else "interrupted"
            detail = "; ".join([reason, *getattr(error, "__notes__", ())])
            self._add_outcome(replace(started, outcome="failed", detail=detail))
            raise
        self._add_outcome(replace(started, outcome="done"))

    def record(self, actor: Actor, action: str, target: UserId | None, detail: str = "") -> None:
        """Record what has happened already. It never fails because of that: then it is only in the log."""
        self._add_outcome(replace(_new_event(actor, action, target, detail), outcome="done"))

    def page(self, query: AuditQuery, *, after: str = "", limit: int) -> list[tuple[str, AuditEvent]]:
        """Up to `limit` events, newest first, each with its key; the next page is `after` the last one's."""
        named = {"Action": query.action, "ActorKey": query.actor_key}
        # Later events have smaller keys: the range starts at `until` and ends at `since`.
        start = _descending(query.until) if query.until else ""
        rows = self._table.range(
            _partition(query.target),
            after=max(after, start),
            below=f"{_descending(query.since)}." if query.since else "",
            limit=limit,
            equal={column: value for column, value in named.items() if value},
        )
        return [(str(row["RowKey"]), _event(row)) for row in rows]

    def all(self, query: AuditQuery) -> Iterator[AuditEvent]:
        """Every event of the query, newest first, a few hundred in memory at a time."""
        after = ""
        while page := self.page(query, after=after, limit=500):
            yield from (event for _, event in page)
            after = page[-1][0]

    def about_or_by(self, user_id: UserId) -> Iterator[AuditEvent]:
        """The events about the user, and the outcomes of what they did to others, the newest first."""
        parts = (self._table.partition(_partition(user_id, kind)) for kind in ("user", "actor"))
        rows = heapq.merge(*parts, key=lambda row: str(row["RowKey"]))
        return (_event({"ActorKey": str(user_id), **row}) for row in rows)

    def erase_details(self, user_id: UserId, reason: str = "") -> None:
        """Remove ACS user ids, and reasons for blocks other than this one, from the events about the user.

        Reads all of them, and may take longer than a request: repeat it without a deadline.
        """
        own, kept = _partition(user_id), without_acs_user_ids(reason)
        condition, values = "PartitionKey eq @own and Detail gt @empty", {"own": own, "empty": ""}
        rows = self._table.query(condition, values, columns=("Action", "Outcome", "Detail"))
        erased = ((row["RowKey"], detail) for row in rows if (detail := _erase(row, kept)) != row["Detail"])
        for some in batches(erased):
            for partition in (ALL, own):  # the one by which the rows are found comes last
                self._merge_all([{"PartitionKey": partition, "RowKey": k, "Detail": d} for k, d in some])

    def purge(self, before: datetime) -> Iterator[int]:
        """Delete the events from before this time.

        The rows among all events are deleted last, and written first: no crash leaves a row that they do not
        lead to.
        """
        condition = "PartitionKey eq @all and RowKey gt @newest"
        values = {"all": ALL, "newest": _descending(before)}
        columns = ("TargetTenantId", "TargetObjectId", "ActorKind", "ActorKey", "Outcome")
        for rows in batches(self._table.query(condition, values, columns=columns)):
            copies = defaultdict[str, list[str]](list)
            for row in rows:
                if target := _find_target(row):
                    copies[_partition(target)].append(str(row["RowKey"]))
                administrator = Actor(kind=row["ActorKind"], key=row["ActorKey"]).user_id
                if administrator not in (None, target) and row["Outcome"] != "started":
                    copies[_partition(administrator, "actor")].append(str(row["RowKey"]))
            for partition, keys in [*copies.items(), (ALL, [str(row["RowKey"]) for row in rows])]:
                self._table.delete_all(partition, keys)
                yield len(keys)

    def _merge_all(self, rows: Sequence[Columns]) -> None:
        """Change these rows of one partition; some may have been purged."""
        with suppress(RowChanged):
            self._table.transact([merge_operation(row) for row in rows])
            return
        for row in rows:
            with suppress(RowChanged):
                self._table.merge(row)

    def _add_outcome(self, event: AuditEvent) -> None:
        log.info(
            EVENTS[event.action],
            action=event.action,
            actor=event.actor.key,
            actor_kind=event.actor.kind,
            target=str(event.target) if event.target else None,
            outcome=event.outcome,
            detail=event.detail,
        )
        try:
            with deadlines.extra_time(OUTCOME_SECONDS):
                self._add(replace(event, at=datetime.now(UTC)), ended=True)
        except UpstreamError as error:
            log.error("audit_not_written", action_id=event.action_id, reason=error.reason)

    def _add(self, event: AuditEvent, *, ended: bool = False) -> None:
        """Raises UpstreamError if the event could not be written to each place."""
        row = {"RowKey": f"{_descending(event.at)}-{uuid.uuid4().hex[:8]}", **_columns(event)}
        for partition in dict.fromkeys((ALL, _partition(event.target))):
            self._table.put({"PartitionKey": partition, **row})
        if ended and (administrator := event.actor.user_id) not in (None, event.target):
            own = {**row, **_columns(replace(event, target=None, detail=""))}
            del own["ActorKey"]  # the partition names them
            self._table.put({"PartitionKey": _partition(administrator, "actor"), **own})


def _new_event(actor: Actor, action: str, target: UserId | None, detail: str) -> AuditEvent:
    return AuditEvent(
        action_id=uuid.uuid4().hex,
        at=datetime.now(UTC),
        actor=actor,
        action=action,
        target=target,
        outcome="started",
        detail=detail,
        request_id=deadlines.current_request_id() or "",
    )


def _erase(row: Columns, kept: str) -> str:
    """The row's detail as it stays after an erasure."""
    detail = without_acs_user_ids(row["Detail"])
    return "" if row["Action"] == "block" and row["Outcome"] != "failed" and detail != kept else detail


def _partition(user_id: UserId | None, kind: str = "user") -> str:
    return f"{kind}-{user_id.object_id}-{user_id.tenant_id}" if user_id else ALL


def _find_target(row: Columns) -> UserId | None:
    return UserId(row["TargetTenantId"], row["TargetObjectId"]) if row["TargetObjectId"] else None


def _descending(time: datetime) -> str:
    return f"{LAST_MICROSECOND - int(time.timestamp() * 1_000_000):017d}"


def _columns(event: AuditEvent) -> Columns:
    return {
        "ActionId": event.action_id,
        "At": event.at,
        "ActorKind": event.actor.kind,
        "ActorKey": event.actor.key,
        "Action": event.action,
        "TargetTenantId": event.target.tenant_id if event.target else "",
        "TargetObjectId": event.target.object_id if event.target else "",
        "Outcome": event.outcome,
        "Detail": without_acs_user_ids(join_lines(event.detail, MAX_DETAIL)),
        "RequestId": event.request_id,
    }


def _event(row: Columns) -> AuditEvent:
    return AuditEvent(
        action_id=row["ActionId"],
        at=utc(row["At"]),
        actor=Actor(kind=row["ActorKind"], key=row["ActorKey"]),
        action=row["Action"],
        target=_find_target(row),
        outcome=row["Outcome"],
        detail=join_lines(row["Detail"], MAX_DETAIL),
        request_id=row["RequestId"],
    )
