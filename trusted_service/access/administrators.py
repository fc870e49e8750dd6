"""The administrators' role in users' newest tokens: for jobs, which outlive requests, and for the last one.

Table `administrators`: one row for each user who ever had the role here. `Role` is empty once a token came
without it. `IssuedAt` is the time of the token that decided, so that an older one changes nothing.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from trusted_service.errors import (
    ChangedTooOften,
    LastAdministrator,
    OwnAccount,
    RoleMissing,
    UpstreamError,
)
from trusted_service.models import Actor, User, UserId
from trusted_service.storage.attempts import attempts
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, utc, version_of
from trusted_service.storage.transactions import put_operation

log = structlog.get_logger(__name__)

WRITE_SECONDS = 2.0
PARTITION = "administrators"
RENEWED_AFTER, SEEN_FOR = timedelta(days=1), timedelta(days=90)
LEAVING_FOR = timedelta(seconds=20)
"""A block takes effect within this time, or has failed."""
MAX_ATTEMPTS = 12
NEVER = datetime(2000, 1, 1, tzinfo=UTC)

Objection = Literal["", "tenant not allowed", "blocked", "no administrator"]
"""Why somebody may not act as an administrator any more."""
Columns = dict[str, Any]


@dataclass(slots=True)
class Administrators:
    """`role` is the administrators' role. Methods raise UpstreamError if the storage fails."""

    table: Table
    identities: IdentityTable
    tenants: tuple[str, ...]
    role: str
    _losses: dict[UserId, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, user: User, issued_at: datetime) -> None:
        """Record whether a token has the role. Never fails; a loss that cannot be written is retried."""
        has_role = self.role in user.roles
        try:
            self._record(user.id, issued_at, has_role=has_role)
        except UpstreamError as error:
            log.warning("role_not_recorded", user=str(user.id), reason=str(error))
            if not has_role:
                self.record_loss(user.id, issued_at)

    def record_loss(self, user_id: UserId, issued_at: datetime) -> None:
        """Let `flush` record a token without the role: most users never had it, so no request reads a row."""
        with self._lock:
            self._losses[user_id] = max(issued_at, self._losses.get(user_id, issued_at))

    def flush(self) -> None:
        """Write the losses, and remove the rows of those who were not seen for long."""
        with self._lock:
            losses, self._losses = self._losses, {}
        if not losses:
            return
        try:
            rows, now = self._rows(), datetime.now(UTC)
            for user_id in losses:
                if _key(user_id) in rows:
                    self._record(user_id, losses[user_id], has_role=False)
            for key in [key for key, row in rows.items() if now - row["SeenAt"] > SEEN_FOR]:
                with contextlib.suppress(RowChanged):  # seen again
                    self.table.delete(PARTITION, key, version=version_of(rows[key]))
        except UpstreamError:
            for user_id, issued_at in losses.items():
                self.record_loss(user_id, issued_at)
            raise

    def retire(self, user_id: UserId) -> bool:
        """Take the role before the user is deleted; return whether there is a row for `forget`.

        Until their requests in progress are over, they could otherwise count as the one who stays.
        """
        with self._lock:
            self._losses.pop(user_id, None)
        if self.find_seen_at(user_id) is None:
            return False
        self._change(user_id, lambda row: row | {"Role": ""})
        return True

    def forget(self, user_id: UserId) -> None:
        """Delete the row of a deleted user, unless they have come back with the role."""
        row = self.table.find(PARTITION, _key(user_id))
        if row is not None and not row["Role"]:
            with contextlib.suppress(RowChanged):
                self.table.delete(PARTITION, _key(user_id), version=version_of(row))

    def find_seen_at(self, user_id: UserId) -> datetime | None:
        """When the user was last seen, to the day; None for somebody who never had the role."""
        row = self.table.find(PARTITION, _key(user_id))
        return None if row is None else utc(row["SeenAt"])

    def admit(self, actor: Actor) -> None:
        """Have a fresh row for an administrator, by their session. Raises RoleMissing if the role is lost."""
        self.flush()

        def admitted(row: Columns) -> Columns:
            if row.get("Role") == "":
                raise RoleMissing
            now = datetime.now(UTC)
            is_fresh = row.get("Role") == self.role and now - row["SeenAt"] < RENEWED_AFTER
            return row if is_fresh else row | {"Role": self.role, "SeenAt": now}

        if actor.user_id is not None:
            self._change(actor.user_id, admitted, may_create=True)

    def find_objection(self, actor: Actor) -> Objection:
        """Why the actor of a job may not go on; operators always may. Somebody without a row may not."""
        if actor.user_id is None:
            return ""
        if actor.user_id.tenant_id not in self.tenants:
            return "tenant not allowed"
        if self._is_blocked(actor.user_id):
            return "blocked"
        row = self.table.find(PARTITION, _key(actor.user_id))
        return "" if row is not None and row["Role"] == self.role else "no administrator"

    def is_last(self, actor: Actor, user_id: UserId) -> bool:
        """Whether nobody else is left who could undo the user's block or deletion."""
        own, other = self._find_other(actor, user_id)
        return own is not None and other is None

    def check_removal(self, actor: Actor, user_id: UserId, *, confirmed: bool) -> None:
        """Before the user is blocked or deleted. Raises OwnAccount, or LastAdministrator unless confirmed.

        Users may erase their own data.
        """
        if actor.kind != "user" and actor.key == str(user_id):
            raise OwnAccount("yourself")
        if confirmed or actor.kind == "user":
            return
        try:
            self._mark_leaving(actor, user_id)
        except UpstreamError as error:
            # A block must not depend on this; an operator can undo it.
            log.warning("last_administrator_not_checked", user=str(user_id), reason=str(error))

    def clear_leaving(self, user_id: UserId) -> None:
        """After the user was let in again. Never fails: the mark expires."""
        with contextlib.suppress(UpstreamError):
            self._change(user_id, lambda row: {name: row[name] for name in row if name != "LeavingAt"})

    def _mark_leaving(self, actor: Actor, user_id: UserId) -> None:
        """Mark the user as leaving, on condition that the one who stays is not leaving at the same time."""
        for _ in attempts(MAX_ATTEMPTS):
            own, other = self._find_other(actor, user_id)
            if own is None:
                return
            if other is None:
                raise LastAdministrator("the last administrator seen")
            leaving = put_operation({**own, "LeavingAt": datetime.now(UTC)}, version=version_of(own))
            with contextlib.suppress(RowChanged):
                self.table.transact([leaving, put_operation(other, version=version_of(other))])
                return
        raise LastAdministrator("the administrators change too often")

    def _find_other(self, actor: Actor, user_id: UserId) -> tuple[Row | None, Row | None]:
        """The user's row if they can act as an administrator, and of somebody who stays: first the actor."""
        own = self.table.find(PARTITION, _key(user_id))
        if own is None or not self._can_act(own):
            return None, None
        with contextlib.suppress(RoleMissing):
            self.admit(actor)
        rows, acting = self._rows(), actor.user_id and _key(actor.user_id)
        others = [rows[key] for key in sorted(rows.keys() - {own["RowKey"]}, key=lambda key: key != acting)]
        return own, next(filter(self._stays, others), None)

    def _stays(self, row: Row) -> bool:
        """A mark from far ahead is the error of a clock."""
        is_leaving = "LeavingAt" in row and abs(datetime.now(UTC) - row["LeavingAt"]) < LEAVING_FOR
        return not is_leaving and self._can_act(row)

    def _can_act(self, row: Row) -> bool:
        """Whether the user can act as an administrator, as far as it is known."""
        user_id = UserId(row["TenantId"], row["ObjectId"])
        return (
            row["Role"] == self.role
            and datetime.now(UTC) - row["SeenAt"] < SEEN_FOR
            and user_id.tenant_id in self.tenants
            and not self._is_blocked(user_id)
        )

    def _is_blocked(self, user_id: UserId) -> bool:
        identity = self.identities.find(user_id)
        return identity is not None and identity.blocked

    def _rows(self) -> dict[str, Row]:
        return {str(row["RowKey"]): row for row in self.table.partition(PARTITION)}

    def _record(self, user_id: UserId, issued_at: datetime, *, has_role: bool) -> None:
        def recorded(row: Columns) -> Columns:
            # Of two tokens of the same second, the one without the role counts.
            if (issued_at, not has_role) <= (row.get("IssuedAt", NEVER), row.get("Role") == ""):
                return row
            role = self.role if has_role else ""
            return row | {"Role": role, "IssuedAt": issued_at, "SeenAt": datetime.now(UTC)}

        self._change(user_id, recorded, may_create=has_role)

    def _change(
        self, user_id: UserId, change: Callable[[Columns], Columns], *, may_create: bool = False
    ) -> None:
        """Write what `change` makes of the user's row. A row that is deleted meanwhile stays deleted."""
        new = {"PartitionKey": PARTITION, "RowKey": _key(user_id)}
        new |= {"TenantId": user_id.tenant_id, "ObjectId": user_id.object_id}
        for attempt in attempts():
            found = self.table.find(PARTITION, _key(user_id))
            if found is None and (attempt or not may_create):
                return
            row = new if found is None else dict(found)
            if (changed := change(row)) == row:
                return
            with contextlib.suppress(RowChanged, RowExists):
                if found is None:
                    self.table.insert(changed)
                else:
                    self.table.replace(changed, version=version_of(found))
                return
        raise ChangedTooOften


def _key(user_id: UserId) -> str:
    return f"{user_id.tenant_id}.{user_id.object_id}"
