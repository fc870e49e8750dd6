"""The table `identities`: which ACS identity belongs to which user. The row is the truth."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from trusted_service.errors import UpstreamUnavailable
from trusted_service.models import Identity, User, UserId
from trusted_service.storage.tables import SERVICE, Row, RowChanged, RowExists, Table, find_utc, utc

log = structlog.get_logger(__name__)


class IdentityTable:
    """PartitionKey is the object id, RowKey the tenant id, in lower case: users spread over partitions."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, user_id: UserId) -> Identity | None:
        row = self._table.find(user_id.object_id, user_id.tenant_id)
        return None if row is None else _identity(row)

    def insert(self, user: User, acs_user_id: str, now: datetime) -> Identity:
        """Map the user to the identity. Raises RowExists where the user has a row, so one writer wins."""
        version = self._table.insert(
            {
                **_key(user.id),
                "AcsUserId": acs_user_id,
                "Name": user.name,
                "Username": user.username,
                "CreatedAt": now,
                "LastTokenAt": now,
                "Blocked": False,
            }
        )
        return Identity(
            user_id=user.id,
            name=user.name,
            username=user.username,
            acs_user_id=acs_user_id,
            created_at=now,
            last_token_at=now,
            blocked=False,
            version=version,
        )

    def insert_known(self, identity: Identity) -> None:
        """Write the row of a user whom another system knew. Raises RowExists where they have one."""
        last = {"LastTokenAt": identity.last_token_at} if identity.last_token_at else {}
        self._table.insert(
            {
                **_key(identity.user_id),
                "AcsUserId": identity.acs_user_id or "",
                "Name": identity.name,
                "Username": identity.username,
                "CreatedAt": identity.created_at,
                "Blocked": identity.blocked,
                **last,
            }
        )

    def hold(self, identity: Identity) -> Identity:
        """Mark that the row is about to name another ACS identity: from then on no session caches the old
        one.

        Raises RowChanged where the row is not as `identity` was read.
        """
        version = self._table.merge({**_key(identity.user_id), "Switching": True}, version=identity.version)
        return replace(identity, switching=True, version=version)

    def set_missing_since(self, identity: Identity, now: datetime) -> Identity:
        """Record that Communication Services says that the identity does not exist. Raises RowChanged."""
        version = self._table.merge({**_key(identity.user_id), "MissingSince": now}, version=identity.version)
        return replace(identity, missing_since=now, version=version)

    def release(self, identity: Identity) -> Identity:
        """Undo both: the identity works. Raises RowChanged."""
        version = self._table.merge({**_key(identity.user_id), **_RELEASED}, version=identity.version)
        return replace(identity, switching=False, missing_since=None, version=version)

    def replace_acs_user_id(self, identity: Identity, acs_user_id: str) -> Identity:
        """Point the row at another ACS identity. Raises RowChanged where it is not as `identity` was read."""
        now = datetime.now(UTC)
        columns = {"AcsUserId": acs_user_id, "SwitchedAt": now, "Indexed": False, **_RELEASED}
        version = self._table.merge({**_key(identity.user_id), **columns}, version=identity.version)
        return replace(
            identity,
            acs_user_id=acs_user_id,
            switched_at=now,
            switching=False,
            missing_since=None,
            indexed=False,
            version=version,
        )

    def set_indexed(self, identity: Identity, keys: tuple[str, ...]) -> None:
        """Record that these rows of the user index show the row as it is. Raises RowChanged.

        A row of another program may have no `CreatedAt`; it gets the one that the index now has.
        """
        columns = {"IndexKeys": json.dumps(keys), "Indexed": True, "CreatedAt": identity.created_at}
        self._table.merge({**_key(identity.user_id), **columns}, version=identity.version)

    def note_token(self, user_id: UserId, now: datetime) -> None:
        """Set `LastTokenAt`; a user who has just been deleted stays deleted."""
        try:
            self._table.merge({**_key(user_id), "LastTokenAt": now})
        except RowChanged:
            return

    def note_names(self, identity: Identity, user: User) -> None:
        """Set what the user is called now, unless the row has changed: then a later sign-in will."""
        names = {"Name": user.name, "Username": user.username, "Indexed": False}
        with contextlib.suppress(RowChanged):
            self._table.merge({**_key(user.id), **names}, version=identity.version)

    def set_blocked(self, user_id: UserId, reason: str, now: datetime) -> Identity:
        """Block the user, whether or not they ever came, and return the row as it is then."""
        columns = {"Blocked": True, "BlockReason": reason, "Blocking": True, "Indexed": False}
        for _ in range(2):
            try:
                self._table.merge({**_key(user_id), **columns})
            except RowChanged:
                try:
                    self._table.insert(
                        {
                            **_key(user_id),
                            **columns,
                            "AcsUserId": "",
                            "Name": "",
                            "Username": "",
                            "CreatedAt": now,
                        }
                    )
                except RowExists:
                    continue  # they came just now
            identity = self.find(user_id)
            if identity is not None and identity.blocked:
                return identity
        raise UpstreamUnavailable(SERVICE, "the block was not kept")

    def note_block_done(self, user_id: UserId) -> None:
        """Write down that nothing of a block is left to do."""
        with contextlib.suppress(RowChanged):
            self._table.merge({**_key(user_id), "Blocking": False})

    def set_unblocked(self, identity: Identity) -> Identity:
        """Let the user in again. Raises RowChanged where the row is not as `identity` was read."""
        version = self._table.merge(
            {
                **_key(identity.user_id),
                "Blocked": False,
                "BlockReason": "",
                "Blocking": False,
                "Indexed": False,
            },
            version=identity.version,
        )
        return replace(
            identity, blocked=False, block_reason="", blocking=False, indexed=False, version=version
        )

    def set_deleting(self, identity: Identity) -> Identity:
        """Note that the user is being deleted. Raises RowChanged where the row is not as it was read."""
        version = self._table.merge({**_key(identity.user_id), "Deleting": True}, version=identity.version)
        return replace(identity, deleting=True, version=version)

    def clear(self, identity: Identity) -> None:
        """Leave nothing in the row but the block. Raises RowChanged where it is not as it was read."""
        self._table.replace(
            {
                **_key(identity.user_id),
                "AcsUserId": "",
                "Name": "",
                "Username": "",
                "CreatedAt": identity.created_at,
                "Blocked": True,
                "BlockReason": identity.block_reason,
            },
            version=identity.version,
        )

    def find_in_all_tenants(self, object_id: str) -> list[Identity]:
        """The rows of this object id: one for each tenant in which it is known."""
        return list(_readable(self._table.partition(object_id)))

    def all(self) -> Iterator[Identity]:
        """Every row, in the order of object ids, a page in memory at a time."""
        return _readable(self._table.all())

    def find_first_mapped(self) -> Identity | None:
        """The first row, in the order of its keys, that names an ACS identity."""
        row = self._table.first("AcsUserId gt @empty", {"empty": ""})
        return None if row is None else next(_readable([row]), None)

    def is_empty(self) -> bool:
        return self._table.first("", {}) is None

    def remove(self, identity: Identity) -> None:
        """Raises RowChanged where the row is not as `identity` was read."""
        self._table.delete(identity.user_id.object_id, identity.user_id.tenant_id, version=identity.version)


_RELEASED = {"Switching": False, "MissingSince": datetime.fromtimestamp(0, UTC)}
"""A merge cannot remove a column, so the epoch stands for no time."""


def _key(user_id: UserId) -> dict[str, str]:
    return {"PartitionKey": user_id.object_id, "RowKey": user_id.tenant_id}


def _readable(rows: Iterable[Row]) -> Iterator[Identity]:
    for row in rows:
        try:
            yield _identity(row)
        except ValueError:
            log.error("row_unreadable", table="identities", object_id=row["PartitionKey"])


def _identity(row: Row) -> Identity:
    """Raises ValueError for keys that are no ids in lower case. Whatever columns others wrote is read."""
    user_id = UserId.parse(row["RowKey"], row["PartitionKey"])
    if (user_id.tenant_id, user_id.object_id) != (row["RowKey"], row["PartitionKey"]):
        raise ValueError("not in lower case")
    missing_since = _find_time(row, "MissingSince")
    return Identity(
        user_id=user_id,
        name=_text(row, "Name"),
        username=_text(row, "Username"),
        acs_user_id=_text(row, "AcsUserId") or None,
        created_at=_find_time(row, "CreatedAt") or utc(_written_at(row)),
        last_token_at=_find_time(row, "LastTokenAt"),
        blocked=_flag(row, "Blocked"),
        block_reason=_text(row, "BlockReason"),
        blocking=_flag(row, "Blocking"),
        deleting=_flag(row, "Deleting"),
        missing_since=missing_since if missing_since and missing_since.timestamp() > 0 else None,
        switched_at=_find_time(row, "SwitchedAt"),
        switching=_flag(row, "Switching"),
        index_keys=_keys(row),
        indexed=_flag(row, "Indexed"),
        version=str(row.metadata.get("etag") or ""),
    )


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _flag(row: Row, column: str) -> bool:
    value = row.get(column)
    return value.strip().lower() in ("true", "1") if isinstance(value, str) else bool(value)


def _keys(row: Row) -> tuple[str, ...]:
    try:
        keys = json.loads(_text(row, "IndexKeys") or "[]")
    except ValueError:
        return ()
    return tuple(str(key) for key in keys) if isinstance(keys, list) else ()


def _find_time(row: Row, column: str) -> datetime | None:
    value = row.get(column)
    if not isinstance(value, str | datetime):
        return None
    try:
        return find_utc(value)
    except (ValueError, OverflowError, OSError):
        return None


def _written_at(row: Row) -> datetime:
    written_at: datetime = row.metadata["timestamp"]  # type: ignore[assignment]
    return written_at
