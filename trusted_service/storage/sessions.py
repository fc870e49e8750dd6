"""The table `sessions`: signed-in browsers, so that every instance sees a sign-out at once.

A session id is 48 bytes in hex: 16 name the user's partition, 32 are random. Only the hash of the latter is
stored, so reading the table is not enough to sign in. Rows under `sid-…` lead from an Entra ID session to
ours.
"""

import contextlib
import hashlib
import itertools
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from trusted_service.errors import UpstreamUnavailable
from trusted_service.models import Session, User, UserId
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, find_utc, utc, version_of
from trusted_service.storage.transactions import batches, merge_operation

PARTITION_BYTES, SECRET_BYTES = 16, 32
SEEN_WRITES_PER_IDLE_TIME = 10
SID = "sid-"
PURGE_DELAY = timedelta(minutes=5)
"""How long after a session's end its row is kept: its last use may still be about to be written."""


@dataclass(frozen=True, slots=True)
class SessionTable:
    """A session ends when unused for `idle`, or `absolute` after its start."""

    table: Table
    idle: timedelta
    absolute: timedelta

    def create(
        self,
        user: User,
        *,
        entra_session_id: str | None = None,
        login_hint: str | None = None,
        address: str = "",
        user_agent: str = "",
    ) -> tuple[str, Session]:
        """Start a session; return its id, which is stored nowhere else, and the session."""
        secret = secrets.token_bytes(SECRET_BYTES)
        partition, now = _partition(user.id), datetime.now(UTC)
        session = Session(
            key=f"{partition}/{_hash(secret)}",
            user=user,
            created_at=now,
            seen_at=now,
            login_hint=login_hint,
            address=address,
            user_agent=user_agent,
        )
        if entra_session_id:
            # Before the session: after a crash in between there is no session that a logout would miss.
            row_key = session.key.replace("/", ".")
            self.table.put({"PartitionKey": _sid_partition(entra_session_id), "RowKey": row_key})
        try:
            self.table.insert(_row(session))
        except RowExists as error:
            raise UpstreamUnavailable("Table Storage", "HTTP 409 for a new random key") from error
        return partition + secret.hex(), session

    def find(self, session_id: str) -> Session | None:
        """The session with this id; None if there is none or it has ended."""
        key = session_key(session_id)
        row = None if key is None else self.table.find(*key.split("/"))
        session = None if row is None else _session(row)
        return None if session is None or self._has_ended(session) else session

    def exists(self, key: str) -> bool:
        return self.table.find(*key.split("/")) is not None

    def list_by_user(self, user_id: UserId) -> list[Session]:
        """The user's sessions that have not ended, the one used last first."""
        sessions = map(_session, self.table.partition(_partition(user_id)))
        live = [session for session in sessions if not self._has_ended(session)]
        return sorted(live, key=lambda session: session.seen_at, reverse=True)

    def is_use_due(self, session: Session) -> bool:
        """Whether to record the use of the session: doing it for each request would double its cost."""
        return datetime.now(UTC) - session.seen_at > self.idle / SEEN_WRITES_PER_IDLE_TIME

    def record_use(
        self, session: Session, *, acs_user_id: str | None = None, token_recorded_at: datetime | None = None
    ) -> None:
        """Record that the session was used just now; one that has ended stays ended.

        `acs_user_id` is cached only if `forget_identity` has not changed the row since it was read.
        """
        row: dict[str, Any] = {**_key(session.key), "SeenAt": datetime.now(UTC)}
        if token_recorded_at:
            row["TokenNotedAt"] = token_recorded_at
        if acs_user_id:
            with contextlib.suppress(RowChanged):
                self.table.merge({**row, "AcsUserId": acs_user_id}, version=session.version)
                return
        with contextlib.suppress(RowChanged):
            self.table.merge(row)

    def forget_identity(self, user_id: UserId) -> None:
        """Clear the cached identity in every session; a `record_use` in progress then no longer caches it."""
        partition = _partition(user_id)
        keys = [f"{partition}/{row['RowKey']}" for row in self.table.partition(partition)]
        for rows in batches({**_key(key), "AcsUserId": ""} for key in keys):
            try:
                self.table.transact([merge_operation(row) for row in rows])
            except RowChanged:  # one of them has just ended
                for row in rows:
                    with contextlib.suppress(RowChanged):
                        self.table.merge(row)

    def end(self, key: str) -> None:
        self.table.delete(*key.split("/"))

    def end_all(self, user_id: UserId, *, but: Session | None = None) -> None:
        partition, kept = _partition(user_id), but and but.key.split("/")[1]
        rows = [str(row["RowKey"]) for row in self.table.partition(partition)]
        self.table.delete_all(partition, [row for row in rows if row != kept])

    def forget_leads(self, user_id: UserId) -> None:
        """Delete what leads from Entra ID sessions to the user's, also to those that have ended."""
        partition = _partition(user_id)
        condition = "PartitionKey ge @first and PartitionKey lt @end and RowKey ge @own and RowKey lt @behind"
        keys = {"first": SID, "end": f"{SID}~", "own": f"{partition}.", "behind": f"{partition}/"}
        for row in self.table.query(condition, keys, columns=()):
            self.table.delete(str(row["PartitionKey"]), str(row["RowKey"]))

    def end_entra_session(self, entra_session_id: str) -> int:
        """End what was started by this Entra ID session (its `sid`); return how many sessions."""
        partition = _sid_partition(entra_session_id)
        rows = [str(row["RowKey"]) for row in self.table.partition(partition)]
        for row in rows:
            self.table.delete(*row.split("."))
            self.table.delete(partition, row)
        return len(rows)

    def purge(self, delay: timedelta = PURGE_DELAY) -> Iterator[None]:
        """Delete the rows of sessions that ended on their own, one for each step; several instances may."""
        now = datetime.now(UTC) - delay
        unused, old = now - self.idle, now - self.absolute
        # The SDK takes `@old)` for the name of a parameter, hence the space.
        ended = "PartitionKey lt @first and (SeenAt lt @unused or CreatedAt lt @old )"
        # These rows are as old as the session that they lead to, and are not written again.
        leads = "PartitionKey ge @first and PartitionKey lt @end and Timestamp lt @old"
        rows = itertools.chain(
            self.table.query(ended, {"first": SID, "unused": unused, "old": old}, columns=()),
            self.table.query(leads, {"first": SID, "end": f"{SID}~", "old": old}, columns=()),
        )
        for row in rows:
            self.table.delete(str(row["PartitionKey"]), str(row["RowKey"]))
            yield

    def _has_ended(self, session: Session) -> bool:
        now = datetime.now(UTC)
        return now - session.seen_at > self.idle or now - session.created_at > self.absolute


def session_key(session_id: str) -> str | None:
    """The key (`partition/row`) of the session with this id; None for what cannot be an id."""
    try:
        raw = bytes.fromhex(session_id)
    except ValueError:
        return None
    if len(raw) != PARTITION_BYTES + SECRET_BYTES:
        return None
    return f"{raw[:PARTITION_BYTES].hex()}/{_hash(raw[PARTITION_BYTES:])}"


def _partition(user_id: UserId) -> str:
    return hashlib.sha256(str(user_id).encode()).digest()[:PARTITION_BYTES].hex()


def _sid_partition(entra_session_id: str) -> str:
    return f"{SID}{_hash(entra_session_id.encode())}"


def _hash(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _key(key: str) -> dict[str, Any]:
    partition, row = key.split("/")
    return {"PartitionKey": partition, "RowKey": row}


def _row(session: Session) -> dict[str, Any]:
    return {
        **_key(session.key),
        "TenantId": session.user.id.tenant_id,
        "ObjectId": session.user.id.object_id,
        "Name": session.user.name,
        "Username": session.user.username,
        "Roles": json.dumps(session.user.roles),
        "CreatedAt": session.created_at,
        "SeenAt": session.seen_at,
        "LoginHint": session.login_hint or "",
        "Address": session.address,
        "UserAgent": session.user_agent,
    }


def _session(row: Row) -> Session:
    return Session(
        key=f"{row['PartitionKey']}/{row['RowKey']}",
        user=User(
            id=UserId(row["TenantId"], row["ObjectId"]),
            name=row["Name"],
            username=row["Username"],
            roles=tuple(json.loads(row["Roles"])),
        ),
        created_at=utc(row["CreatedAt"]),
        seen_at=utc(row["SeenAt"]),
        login_hint=row.get("LoginHint") or None,
        address=row.get("Address", ""),
        user_agent=row.get("UserAgent", ""),
        acs_user_id=row.get("AcsUserId") or None,
        token_recorded_at=find_utc(row.get("TokenNotedAt")),
        version=version_of(row),
    )
