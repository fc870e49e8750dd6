"""Who was last seen with the administrators' role: for jobs, which outlive requests, and for the last one.

Table `administrators`: one row for each user or application that ever had the role here, with the role,
which is empty once they came without it.
"""

import contextlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from trusted_service.errors import (
    LastAdministrator,
    OwnAccount,
    RoleMissing,
    UpstreamError,
    UpstreamUnavailable,
)
from trusted_service.models import Actor, User, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import Row, RowChanged, Table, utc, version_of
from trusted_service.storage.transactions import put_operation

log = structlog.get_logger(__name__)

WRITE_SECONDS = 2.0
PARTITION = "administrators"
RENEWED_AFTER, SEEN_FOR = timedelta(days=1), timedelta(days=90)
LEAVING_FOR = timedelta(seconds=20)
"""A block takes effect within this time, or has failed."""
ATTEMPTS = 8

Objection = Literal["", "tenant not allowed", "blocked", "no administrator"]
"""Why somebody may not act as an administrator any more."""


@dataclass(slots=True)
class Administrators:
    """`role` is the administrators' role. Methods raise UpstreamError if the storage fails."""

    table: Table
    identities: IdentityTable
    tenants: tuple[str, ...]
    role: str
    _noted: dict[UserId, tuple[bool, bool]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, user: User, *, application: bool = False) -> None:
        """Note whether somebody's newest token has the role. `flush` writes it: callers do not wait."""
        with self._lock:
            self._noted[user.id] = self.role in user.roles, application

    def flush(self) -> None:
        """Write what has been noted, and remove the rows of those who were not seen for long."""
        with self._lock:
            noted, self._noted = self._noted, {}
        if not noted:
            return
        try:
            rows, now = self._rows(), datetime.now(UTC)
            for user_id, (has_role, application) in noted.items():
                row = rows.pop(_key(user_id), None)
                if has_role and not (
                    row and row["Role"] == self.role and now - row["SeenAt"] < RENEWED_AFTER
                ):
                    self._put(user_id, self.role, application=application)
                elif row and row["Role"] and not has_role:
                    self._put(user_id, "", application=application)
            for key in [key for key, row in rows.items() if now - row["SeenAt"] > SEEN_FOR]:
                self.table.delete(PARTITION, key)
        except UpstreamError:
            with self._lock:
                self._noted = noted | self._noted
            raise

    def forget(self, user_id: UserId) -> None:
        with self._lock:
            self._noted.pop(user_id, None)
        self.table.delete(PARTITION, _key(user_id))

    def find_seen_at(self, user_id: UserId) -> datetime | None:
        """When the user was last seen, to the day; None for somebody who never had the role."""
        row = self.table.find(PARTITION, _key(user_id))
        return None if row is None else utc(row["SeenAt"])

    def admit(self, actor: Actor) -> None:
        """Have a row for an actor who has the role by their session. Raises RoleMissing once it is lost."""
        if actor.kind not in ("administrator", "application"):
            return
        self.flush()
        user_id = _user_id(actor)
        row = self.table.find(PARTITION, _key(user_id))
        if row is not None and not row["Role"]:
            raise RoleMissing
        if row is None or row["Role"] != self.role:
            self._put(user_id, self.role, application=actor.kind == "application")

    def find_objection(self, actor: Actor) -> Objection:
        """Why the actor of a job may not go on; operators always may. Somebody without a row may not."""
        if actor.kind not in ("administrator", "application"):
            return ""
        user_id = _user_id(actor)
        if user_id.tenant_id not in self.tenants:
            return "tenant not allowed"
        if self._is_blocked(user_id):
            return "blocked"
        row = self.table.find(PARTITION, _key(user_id))
        return "" if row is not None and row["Role"] == self.role else "no administrator"

    def is_last(self, user_id: UserId) -> bool:
        """Whether nobody else is left who could undo the user's block or deletion."""
        rows = self._rows()
        own = rows.pop(_key(user_id), None)
        return own is not None and self._stays(own) and not any(map(self._stays, rows.values()))

    def let_go(self, actor: Actor, user_id: UserId, *, confirmed: bool) -> None:
        """Before the user is blocked or deleted. Raises OwnAccount, or LastAdministrator unless confirmed.

        Users may erase their own data.
        """
        if actor.kind != "user" and actor.key == str(user_id):
            raise OwnAccount("yourself")
        if confirmed or actor.kind == "user":
            return
        try:
            self._leave(user_id)
        except UpstreamError as error:
            # A block must not depend on this; an operator can undo it.
            log.warning("last_administrator_not_checked", user=str(user_id), reason=str(error))

    def _leave(self, user_id: UserId) -> None:
        """Mark the user as leaving, on condition that the one who stays is not leaving at the same time."""
        for _ in range(ATTEMPTS):
            rows = self._rows()
            own = rows.pop(_key(user_id), None)
            if own is None or not self._stays(own):
                return
            if (other := next(filter(self._stays, rows.values()), None)) is None:
                raise LastAdministrator("the last administrator seen")
            leaving = put_operation({**own, "LeavingAt": datetime.now(UTC)}, version=version_of(own))
            with contextlib.suppress(RowChanged):
                self.table.transact([leaving, put_operation(other, version=version_of(other))])
                return
        raise UpstreamUnavailable("Table Storage", "the administrators changed too often")

    def _stays(self, row: Row) -> bool:
        """Whether this is a person who can act as an administrator, as far as it is known."""
        now, user_id = datetime.now(UTC), UserId(row["TenantId"], row["ObjectId"])
        return (
            row["Role"] == self.role
            and not row["Application"]  # it takes a person to decide to undo something
            and now - row["SeenAt"] < SEEN_FOR
            and ("LeavingAt" not in row or now - row["LeavingAt"] > LEAVING_FOR)
            and user_id.tenant_id in self.tenants
            and not self._is_blocked(user_id)
        )

    def _is_blocked(self, user_id: UserId) -> bool:
        identity = self.identities.find(user_id)
        return identity is not None and identity.blocked

    def _rows(self) -> dict[str, Row]:
        return {str(row["RowKey"]): row for row in self.table.partition(PARTITION)}

    def _put(self, user_id: UserId, role: str, *, application: bool) -> None:
        row: dict[str, Any] = {"PartitionKey": PARTITION, "RowKey": _key(user_id), "Role": role}
        row |= {"TenantId": user_id.tenant_id, "ObjectId": user_id.object_id}
        self.table.put(row | {"Application": application, "SeenAt": datetime.now(UTC)})


def _key(user_id: UserId) -> str:
    return f"{user_id.tenant_id}.{user_id.object_id}"


def _user_id(actor: Actor) -> UserId:
    return UserId(*actor.key.split("/"))
