"""The table `sessions`: signed-in browsers, so that every instance sees a sign-out at once.

A session id is 48 random-looking bytes in hex: 16 that tell the user's partition, 32 of randomness.
Only the hash of the second part is stored, so nobody who can read the table can sign in with what
is there. All sessions of one user share a partition: they are found and ended by it, without a
second row that could disagree. Rows under `sid-…` lead from an Entra ID session to ours.
"""

import contextlib
import hashlib
import itertools
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from trusted_service.errors import InvalidRequest, UpstreamUnavailable
from trusted_service.models import Session, SessionOrigin, User, UserId
from trusted_service.storage.tables import (
    MAX_OPERATIONS,
    SERVICE,
    Columns,
    Row,
    RowChanged,
    RowExists,
    Table,
    find_utc,
    merge_operation,
    utc,
)

PARTITION_BYTES, SECRET_BYTES = 16, 32
SEEN_WRITES_PER_IDLE_TIME = 10
INDEX = "sid-"
GRACE = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionLimits:
    """When a session ends: unused for `idle`, or `absolute` after its start."""

    idle: timedelta
    absolute: timedelta

    @classmethod
    def of_minutes(cls, idle: int, absolute: int) -> Self:
        return cls(idle=timedelta(minutes=idle), absolute=timedelta(minutes=absolute))


class SessionTable:
    def __init__(self, table: Table, limits: SessionLimits) -> None:
        self._table = table
        self._limits = limits

    def create(
        self,
        user: User,
        *,
        entra_session_id: str | None,
        login_hint: str | None,
        origin: SessionOrigin,
    ) -> tuple[str, Session]:
        """Start a session; return its id, which is nowhere else, and the session."""
        secret = secrets.token_bytes(SECRET_BYTES)
        partition = _partition(user.id)
        now = datetime.now(UTC)
        session = Session(
            key=f"{partition}/{_hash(secret)}",
            user=user,
            created_at=now,
            seen_at=now,
            login_hint=login_hint,
            origin=origin,
        )
        if entra_session_id:
            # Before the session: a process that dies in between leaves no session that a logout would miss.
            self._table.put(_index_row(entra_session_id, session.key))
        self._insert(
            {
                **_row_key(session.key),
                "TenantId": user.id.tenant_id,
                "ObjectId": user.id.object_id,
                "Name": user.name,
                "Username": user.username,
                "Roles": json.dumps(user.roles),
                "CreatedAt": now,
                "SeenAt": now,
                "LoginHint": login_hint or "",
                "Address": origin.address,
                "UserAgent": origin.user_agent,
            }
        )
        return partition + secret.hex(), session

    def _insert(self, row: Columns) -> None:
        try:
            self._table.insert(row)
        except RowExists as error:
            raise UpstreamUnavailable(SERVICE, "HTTP 409 to a new random key") from error

    def find(self, session_id: str) -> Session | None:
        """Return the session of this id, or None if there is none or it has ended."""
        key = session_key(session_id)
        if key is None:
            return None
        row = self._table.find(*key.split("/"))
        if row is None:
            return None
        session = _session(row)
        return None if self._is_over(session) else session

    def of_user(self, user_id: UserId) -> list[Session]:
        """The user's sessions that have not ended, the one used last first."""
        sessions = [_session(row) for row in self._table.partition(_partition(user_id))]
        live = [session for session in sessions if not self._is_over(session)]
        return sorted(live, key=lambda session: session.seen_at, reverse=True)

    def exists(self, key: str) -> bool:
        """Whether the session has not been ended by anybody."""
        return self._table.find(*key.split("/")) is not None

    def seen_is_due(self, session: Session) -> bool:
        """Whether the session's use should be written down: at each request, that would double its cost."""
        age = datetime.now(UTC) - session.seen_at
        return age > self._limits.idle / SEEN_WRITES_PER_IDLE_TIME

    def note(
        self,
        session: Session,
        *,
        acs_user_id: str | None = None,
        token_noted_at: datetime | None = None,
    ) -> None:
        """Record that the session was used just now; one that has ended stays ended.

        `acs_user_id` is cached only where the row is still as `session` was read: after `forget_identity` it
        is another one.
        """
        columns: dict[str, object] = {"SeenAt": datetime.now(UTC)}
        if token_noted_at:
            columns["TokenNotedAt"] = token_noted_at
        if acs_user_id:
            with contextlib.suppress(RowChanged):
                self._table.merge(
                    {**_row_key(session.key), **columns, "AcsUserId": acs_user_id}, version=session.version
                )
                return
        with contextlib.suppress(RowChanged):
            self._table.merge({**_row_key(session.key), **columns})

    def forget_identity(self, user_id: UserId) -> None:
        """Drop the cached identity of every session of the user, and of what is about to be cached."""
        partition = _partition(user_id)
        rows = [
            {"PartitionKey": partition, "RowKey": row["RowKey"], "AcsUserId": ""}
            for row in self._table.partition(partition)
        ]
        for start in range(0, len(rows), MAX_OPERATIONS):
            some = rows[start : start + MAX_OPERATIONS]
            try:
                self._table.transact([merge_operation(row) for row in some])
            except RowChanged:  # one of them has just ended
                for row in some:
                    with contextlib.suppress(RowChanged):
                        self._table.merge(row)

    def end_one(self, user_id: UserId, row_key: str) -> None:
        """End one session of the user, named by the second part of its key; another user's is not touched.

        Raises InvalidRequest for what cannot be such a part.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", row_key):
            raise InvalidRequest("There can be no such session.")
        self._table.delete(_partition(user_id), row_key)

    def _is_over(self, session: Session) -> bool:
        now = datetime.now(UTC)
        unused, age = now - session.seen_at, now - session.created_at
        return unused > self._limits.idle or age > self._limits.absolute

    def end(self, key: str) -> None:
        self._table.delete(*key.split("/"))

    def end_all(self, user_id: UserId) -> int:
        """End every session of the user; return how many there were."""
        rows = [str(row["RowKey"]) for row in self._table.partition(_partition(user_id))]
        for row in rows:
            self._table.delete(_partition(user_id), row)
        return len(rows)

    def end_entra_session(self, entra_session_id: str) -> int:
        """End what was started by this Entra ID session (its `sid`); return how many sessions that were."""
        index = _index_partition(entra_session_id)
        rows = [str(row["RowKey"]) for row in self._table.partition(index)]
        for row in rows:
            self._table.delete(*row.split("."))
            self._table.delete(index, row)
        return len(rows)

    def purge(self, grace: timedelta = GRACE) -> Iterator[None]:
        """Delete the rows of sessions that ended by themselves, and what leads to such, one for each step.

        Several instances may do it at once. Not before `grace` after their end: a use of the last minute
        may still be on its way to the row.
        """
        now = datetime.now(UTC) - grace
        # The SDK takes `@old)` for the name of a parameter, hence the space.
        unused, old = now - self._limits.idle, now - self._limits.absolute
        over = self._table.filtered(
            "PartitionKey lt @first and (SeenAt lt @unused or CreatedAt lt @old )",
            {"first": INDEX, "unused": unused, "old": old},
            (),
        )
        # These rows are as old as the session that they lead to, and are not written again.
        leads = self._table.filtered(
            "PartitionKey ge @first and PartitionKey lt @end and Timestamp lt @old",
            {"first": INDEX, "end": f"{INDEX}~", "old": old},
            (),
        )
        for row in itertools.chain(over, leads):
            self._table.delete(str(row["PartitionKey"]), str(row["RowKey"]))
            yield


def session_key(session_id: str) -> str | None:
    """Return the key of the session of this id (`partition/row`), or None for what cannot be an id."""
    try:
        raw = bytes.fromhex(session_id)
    except ValueError:
        return None
    if len(raw) != PARTITION_BYTES + SECRET_BYTES:
        return None
    return f"{raw[:PARTITION_BYTES].hex()}/{_hash(raw[PARTITION_BYTES:])}"


def _partition(user_id: UserId) -> str:
    return hashlib.sha256(str(user_id).encode()).digest()[:PARTITION_BYTES].hex()


def _index_partition(entra_session_id: str) -> str:
    return f"{INDEX}{_hash(entra_session_id.encode())}"


def _hash(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _row_key(key: str) -> dict[str, object]:
    partition, row = key.split("/")
    return {"PartitionKey": partition, "RowKey": row}


def _index_row(entra_session_id: str, key: str) -> dict[str, object]:
    return {"PartitionKey": _index_partition(entra_session_id), "RowKey": key.replace("/", ".")}


def _session(row: Row) -> Session:
    user = User(
        id=UserId.parse(row["TenantId"], row["ObjectId"]),
        name=row["Name"],
        username=row["Username"],
        roles=tuple(json.loads(row["Roles"])),
    )
    return Session(
        key=f"{row['PartitionKey']}/{row['RowKey']}",
        user=user,
        created_at=utc(row["CreatedAt"]),
        seen_at=utc(row["SeenAt"]),
        login_hint=row.get("LoginHint") or None,
        origin=SessionOrigin(address=row.get("Address", ""), user_agent=row.get("UserAgent", "")),
        acs_user_id=row.get("AcsUserId") or None,
        token_noted_at=find_utc(row.get("TokenNotedAt")),
        version=str(row.metadata["etag"]),
    )
