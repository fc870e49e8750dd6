"""The table `identities`: which ACS identity belongs to which user. The row is the truth."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import structlog

from trusted_service.errors import UpstreamUnavailable
from trusted_service.models import Identity, User, UserId
from trusted_service.storage.tables import SERVICE, Row, RowChanged, RowExists, Table, find_utc, utc

log = structlog.get_logger(__name__)

IndexKeys = tuple[tuple[str, str], ...]


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

    def replace_acs_user_id(self, identity: Identity, acs_user_id: str) -> Identity:
        """Point the row at another ACS identity. Raises RowChanged where it is not as `identity` was read."""
        version = self._table.merge(
            {**_key(identity.user_id), "AcsUserId": acs_user_id}, version=identity.version
        )
        return replace(identity, acs_user_id=acs_user_id, version=version)

    def note_token(self, user_id: UserId, now: datetime) -> None:
        """Set `LastTokenAt`; a user who has just been deleted stays deleted."""
        try:
            self._table.merge({**_key(user_id), "LastTokenAt": now})
        except RowChanged:
            return

    def note_names(self, identity: Identity, user: User) -> None:
        """Set what the user is called now, unless the row has changed: then a later sign-in will."""
        names = {"Name": user.name, "Username": user.username}
        with contextlib.suppress(RowChanged):
            self._table.merge({**_key(user.id), **names}, version=identity.version)

    def set_blocked(self, user_id: UserId, reason: str, now: datetime) -> Identity:
        """Block the user, whether or not they ever came, and return the row as it is then."""
        columns = {"Blocked": True, "BlockReason": reason, "Blocking": True}
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

    def set_unblocked(self, identity: Identity) -> None:
        """Let the user in again. Raises RowChanged where the row is not as `identity` was read."""
        self._table.merge(
            {**_key(identity.user_id), "Blocked": False, "BlockReason": "", "Blocking": False},
            version=identity.version,
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
                "IndexKeys": _dump_keys(identity.index_keys),
            },
            version=identity.version,
        )

    def note_index_keys(self, identity: Identity, keys: IndexKeys) -> None:
        """Write down which index rows lead to the user; raises RowChanged where the row is not as read."""
        self._table.merge({**_key(identity.user_id), "IndexKeys": _dump_keys(keys)}, version=identity.version)

    def find_in_all_tenants(self, object_id: str) -> list[Identity]:
        """The rows of this object id: one for each tenant in which it is known."""
        return [_identity(row) for row in self._table.partition(object_id)]

    def all(self) -> Iterator[Identity]:
        """Every row, in the order of object ids, a page in memory at a time."""
        for row in self._table.all():
            try:
                yield _identity(row)
            except ValueError:
                log.error("row_unreadable", table="identities", object_id=row["PartitionKey"])

    def remove(self, identity: Identity) -> None:
        """Raises RowChanged where the row is not as `identity` was read."""
        self._table.delete(identity.user_id.object_id, identity.user_id.tenant_id, version=identity.version)

    def check(self) -> None:
        """Raises UpstreamUnavailable unless the storage answers a read."""
        self._table.find("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000")


def _key(user_id: UserId) -> dict[str, str]:
    return {"PartitionKey": user_id.object_id, "RowKey": user_id.tenant_id}


def _identity(row: Row) -> Identity:
    return Identity(
        user_id=UserId.parse(row["RowKey"], row["PartitionKey"]),
        name=row.get("Name", ""),
        username=row.get("Username", ""),
        acs_user_id=row.get("AcsUserId") or None,
        created_at=find_utc(row.get("CreatedAt")) or utc(_written_at(row)),
        last_token_at=find_utc(row.get("LastTokenAt")),
        blocked=bool(row.get("Blocked", False)),
        block_reason=row.get("BlockReason", ""),
        blocking=bool(row.get("Blocking", False)),
        deleting=bool(row.get("Deleting", False)),
        index_keys=_load_keys(row.get("IndexKeys")),
        version=str(row.metadata["etag"]),
    )


def _written_at(row: Row) -> datetime:
    written_at: datetime = row.metadata["timestamp"]  # type: ignore[assignment]
    return written_at


def _dump_keys(keys: IndexKeys) -> str:
    return json.dumps(keys, ensure_ascii=False, separators=(",", ":"))


def _load_keys(value: str | None) -> IndexKeys:
    return tuple((partition, row) for partition, row in json.loads(value or "[]"))
