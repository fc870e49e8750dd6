"""The table `sessions`: signed-in browsers, so that every instance sees a sign-out at once.

A session id is 48 bytes in hex: 16 name the user's partition, 32 are random. Only the hash of the latter is
stored, so reading the table is not enough to sign in. Other rows, the leads, lead from an Entra ID session
(its `sid`) to ours.
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
from typing import Any

from trusted_service.errors import UpstreamUnavailable
from trusted_service.models import Session, User, UserId
from trusted_service.storage import partitions
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, find_utc, utc, version_of
from trusted_service.storage.transactions import merge_operation

PARTITION_BYTES, SECRET_BYTES = 16, 32
SEEN_WRITES_PER_IDLE_TIME = 10
MAX_SESSIONS = 50  # of a user
SID = "sid-"
ROW_KEY = re.compile("[0-9a-f]{64}")
PURGE_DELAY = timedelta(minutes=5)
"""How long after a session's end its row is kept: its last use may still be about to be written."""


@dataclass(frozen=True, slots=True)
class SessionTable:
    """A session ends when unused for `idle`, or `absolute` after its start."""

    table: Table
    idle: timedelta
    absolute: timedelta

    def create(
        self, user: User, *, entra_session_id: str | None = None, login_hint: str | None = None, **others: Any
    ) -> tuple[str, Session]:
        """Start a session; return its id, which is stored nowhere else, and the session.

        `others` are the fields of Session that describe it.
        """
        secret = secrets.token_bytes(SECRET_BYTES)
        partition, now = _partition(user.id), datetime.now(UTC)
        key = f"{partition}/{_hash(secret)}"
        session = Session(key=key, user=user, created_at=now, seen_at=now, login_hint=login_hint, **others)
        if entra_session_id:
            # Before the session: after a crash in between there is no session that a logout would miss.
            self.table.put(
                {"PartitionKey": _sid_partition(entra_session_id), "RowKey": key.replace("/", ".")}
            )
        try:
            self.table.insert(_row(session))
        except RowExists as error:
            raise UpstreamUnavailable("Table Storage", "HTTP 409 for a new random key") from error
        return partition + secret.hex(), session

    def all_keys(self) -> Iterator[Row]:
        """The rows of all sessions, with nothing but their keys; some may have ended."""
        return self.table.query("PartitionKey lt @first", {"first": SID}, columns=())

    def find(self, session_id: str) -> Session | None:
        """The session with this id; None if there is none or it has ended."""
        key = session_key(session_id)
        row = None if key is None else self.table.find(*key.split("/"))
        session = None if row is None else _session(row)
        return None if session is None or self._has_ended(session) else session

    def exists(self, key: str) -> bool:
        return self.table.find(*key.split("/")) is not None

    def list_by_user(self, user_id: UserId) -> list[Session]:
        """The user's sessions that have not ended."""
        return [_session(row) for row in self._live(user_id)]

    def page(self, user_id: UserId, *, after: str, limit: int) -> tuple[list[Session], str | None]:
        """Up to `limit` such sessions, sorted by their last use, and where the next page begins, if any."""
        rows = list(itertools.islice(self._live(user_id, after=after, page=limit + 1), limit + 1))
        sessions = sorted(map(_session, rows[:limit]), key=lambda session: session.seen_at, reverse=True)
        return sessions, str(rows[limit - 1]["RowKey"]) if len(rows) > limit else None

    def end_excess(self, newest: Session, leaving: Session | None) -> None:
        """End the oldest sessions beyond MAX_SESSIONS, not counting the one that is `leaving`."""
        kept = [session.key.split("/")[1] for session in (newest, leaving) if session is not None]
        live = self._live(newest.user.id, columns=("CreatedAt",))
        others = [row for row in live if row["RowKey"] not in kept]
        others.sort(key=lambda row: (utc(row["CreatedAt"]), row["RowKey"]), reverse=True)
        excess = [str(row["RowKey"]) for row in others[MAX_SESSIONS - 1 :]]
        self.table.delete_all(_partition(newest.user.id), excess)

    def is_use_due(self, session: Session) -> bool:
        """Whether to record the use of the session: doing it for each request would double its cost.

        A use in the future was recorded by the clock of another instance.
        """
        return abs(datetime.now(UTC) - session.seen_at) > self.idle / SEEN_WRITES_PER_IDLE_TIME

    def record_use(
        self, session: Session, *, acs_user_id: str | None = None, token_recorded_at: datetime | None = None
    ) -> None:
        """Record that the session was used just now; one that has ended stays ended.

        `acs_user_id` is cached only if `forget_identity` has not changed the row since it was read.
        """
        now = datetime.now(UTC)
        if now < session.seen_at:  # this clock is slow, and by another one the session may have ended
            now = max(now, self.table.now())
        row: dict[str, Any] = {**_key(session.key), "SeenAt": now}
        if token_recorded_at:
            row["TokenNotedAt"] = token_recorded_at
        if acs_user_id:
            with contextlib.suppress(RowChanged):
                self.table.merge({**row, "AcsUserId": acs_user_id}, version=session.version)
                return
        with contextlib.suppress(RowChanged):
            self.table.merge(row)

    def record_flow(self, session: Session, flow: str) -> None:
        with contextlib.suppress(RowChanged):  # it has ended
            self.table.merge({**_key(session.key), "Flow": flow})

    def forget_identity(self, user_id: UserId) -> None:
        """Clear the cached identity in every session; a `record_use` in progress then no longer caches it."""
        partitions.change_all(
            self.table, _partition(user_id), lambda key: merge_operation({**key, "AcsUserId": ""})
        )

    def end(self, key: str) -> None:
        self.table.delete(*key.split("/"))

    def end_one(self, user_id: UserId, row_key: str) -> bool:
        """End the user's session whose key has this second part; False if there is none."""
        key = f"{_partition(user_id)}/{row_key}"
        if not ROW_KEY.fullmatch(row_key) or not self.exists(key):
            return False
        self.end(key)
        return True

    def end_all(self, user_id: UserId, *, but: Session | None = None) -> None:
        """End all sessions of the user but this one."""
        kept = but and but.key.split("/")[1]
        partitions.delete_all(self.table, _partition(user_id), lambda row_key: row_key != kept)

    def end_entra_session(self, entra_session_id: str) -> int:
        """End what was started by this Entra ID session (its `sid`); return how many sessions."""
        partition = _sid_partition(entra_session_id)
        leads = [str(row["RowKey"]) for row in self.table.partition(partition)]
        row_keys = {lead.split(".")[1] for lead in leads}
        for user in {lead.split(".")[0] for lead in leads}:
            partitions.delete_all(self.table, user, row_keys.__contains__)
        self.table.delete_all(partition, leads)
        return len(leads)

    def purge(self, before: datetime) -> Iterator[int]:
        """Delete the rows of sessions that ended on their own before this time, by the storage's clock.

        A row that has just been written stays, however old the times in it: its writer's clock may be slow.
        """
        unused, old = before - self.idle, before - self.absolute
        # The SDK takes `@old)` for the name of a parameter, hence the space.
        ended = "(SeenAt lt @unused or CreatedAt lt @old ) and Timestamp lt @written"
        times = {"unused": unused, "old": old, "written": max(unused, old)}
        yield from self.table.purge(f"PartitionKey lt @first and {ended}", {"first": SID} | times)
        # These rows are as old as the session that they lead to, and are not written again.
        leads = "PartitionKey ge @first and PartitionKey lt @end and Timestamp lt @old"
        yield from self.table.purge(leads, {"first": SID, "end": f"{SID}~", "old": old})

    def _live(self, user_id: UserId, *, after: str = "", **options: Any) -> Iterator[Row]:
        """The rows of the user's sessions that have not ended, in the order of their keys."""
        condition = "PartitionKey eq @user and RowKey gt @after and SeenAt ge @unused and CreatedAt ge @old"
        now = datetime.now(UTC)
        values = {"user": _partition(user_id), "unused": now - self.idle, "old": now - self.absolute}
        return self.table.query(condition, values | {"after": after}, **options)

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
    return SID + _hash(entra_session_id.encode())


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
        "Flow": session.flow,
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
        flow=row.get("Flow", ""),
        acs_user_id=row.get("AcsUserId") or None,
        token_recorded_at=find_utc(row.get("TokenNotedAt")),
        version=version_of(row),
    )
