"""The table `identities`: which ACS identity belongs to which user. The row is the truth."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from trusted_service.errors import ChangedTooOften, NotFound, UpstreamError
from trusted_service.models import MAX_REASON, Identity, UserId
from trusted_service.storage.attempts import attempts
from trusted_service.storage.open_blocks import OpenBlocks
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, find_utc, utc, version_of
from trusted_service.storage.transactions import Columns
from trusted_service.texts import join_lines, without_acs_user_ids

log = structlog.get_logger(__name__)

NO_TIME = datetime.fromtimestamp(0, UTC)
"""A merge cannot remove a column, so the epoch stands for no time."""
ALWAYS_WRITTEN = ("acs_user_id", "name", "username", "created_at", "blocked")


class IdentityTable:
    """PartitionKey is the object id, RowKey the tenant id, in lower case: users spread over partitions."""

    def __init__(self, table: Table, jobs: Table) -> None:
        self._table = table
        self.open_blocks = OpenBlocks(jobs)

    def find(self, user_id: UserId) -> Identity | None:
        row = self._table.find(user_id.object_id, user_id.tenant_id)
        return None if row is None else _identity(row)

    def get(self, user_id: UserId) -> Identity:
        """The user's row. Raises NotFound."""
        if (identity := self.find(user_id)) is None:
            raise NotFound
        return identity

    def insert(self, identity: Identity) -> Identity:
        """Add the row. Raises RowExists if the user has one, so that one writer wins."""
        return replace(identity, version=self._table.insert(_row(identity)))

    def update(self, identity: Identity, **changes: Any) -> Identity:
        """Change fields of the row. Raises RowChanged if it is not as `identity` was read."""
        row = _key(identity.user_id) | _columns(changes)
        return replace(identity, **changes, version=self._table.merge(row, version=identity.version))

    def update_if_present(self, user_id: UserId, **changes: Any) -> None:
        """Change fields of the row, whatever its version; a user without a row stays without one."""
        with contextlib.suppress(RowChanged):
            self._table.merge(_key(user_id) | _columns(changes))

    def block(self, user_id: UserId, reason: str) -> Identity:
        """Begin to block the user, with or without a row, and return the row as it then is.

        If it cannot be read, the error says that the row is blocked, or that the outcome is unknown.
        """
        block: dict[str, Any] = {"blocked": True, "block_reason": reason, "blocking": True}
        with contextlib.suppress(UpstreamError):  # without that, only this process finishes the block
            self.open_blocks.add(user_id)
        for _ in attempts():
            failure: UpstreamError | None = None
            try:
                self._write_block(user_id, **block)
            except RowExists:  # the user has just come
                continue
            except UpstreamError as error:
                if not error.outcome_unknown:
                    raise
                failure = error
                failure.done = "block-unknown"
            try:
                identity = self.find(user_id)
            except UpstreamError as error:
                if failure is not None:
                    raise failure from error
                error.done = "block-row"
                raise
            if identity is not None and identity.blocked:
                return identity
            if failure is not None:
                raise failure
        raise ChangedTooOften

    def _write_block(self, user_id: UserId, **block: Any) -> None:
        try:
            self._table.merge(_key(user_id) | _columns(block | {"indexed": False}))
        except RowChanged:
            self.insert(Identity(user_id=user_id, created_at=datetime.now(UTC), **block))

    def clear(self, identity: Identity) -> None:
        """Leave nothing in the row but the block. Raises RowChanged if it is not as it was read."""
        user_id, created_at = identity.user_id, identity.created_at
        reason = without_acs_user_ids(identity.block_reason)
        block = Identity(user_id=user_id, created_at=created_at, blocked=True, block_reason=reason)
        self._table.replace(_row(block), version=identity.version)

    def remove(self, identity: Identity) -> None:
        """Raises RowChanged if the row is not as `identity` was read."""
        self._table.delete(identity.user_id.object_id, identity.user_id.tenant_id, version=identity.version)

    def find_in_all_tenants(self, object_id: str) -> list[Identity]:
        """The rows of this object id: one for each tenant in which it is known."""
        return list(_readable(self._table.partition(object_id)))

    def all(self) -> Iterator[Identity]:
        """Every row, in the order of object ids, a page in memory at a time."""
        return _readable(self._table.query())

    def find_first_mapped(self) -> Identity | None:
        """The first row, in the order of its keys, that names an ACS identity."""
        return next(_readable(self._table.query("AcsUserId gt @empty", {"empty": ""}, page=1)), None)

    def is_empty(self) -> bool:
        return next(self._table.query(page=1), None) is None


def _key(user_id: UserId) -> dict[str, Any]:
    return {"PartitionKey": user_id.object_id, "RowKey": user_id.tenant_id}


def _row(identity: Identity) -> dict[str, Any]:
    values = {field.name: getattr(identity, field.name) for field in fields(identity)}
    user_id = values.pop("user_id")
    return _key(user_id) | _columns({n: v for n, v in values.items() if v or n in ALWAYS_WRITTEN})


def _columns(values: Columns) -> dict[str, Any]:
    """Fields of an Identity as columns: `acs_user_id` is `AcsUserId`."""
    return {name.title().replace("_", ""): _stored(name, value) for name, value in values.items()}


def _stored(name: str, value: Any) -> Any:
    if name == "index_keys":
        return json.dumps(value)
    if value is None:
        return "" if name == "acs_user_id" else NO_TIME
    return value


def _readable(rows: Iterable[Row]) -> Iterator[Identity]:
    for row in rows:
        try:
            yield _identity(row)
        except ValueError:
            log.error("row_unreadable", table="identities", object_id=row["PartitionKey"])


def _identity(row: Row) -> Identity:
    """Raises ValueError for keys that are not ids in lower case. A copy may have text for times and flags."""
    user_id = UserId.parse(row["RowKey"], row["PartitionKey"])
    if (user_id.tenant_id, user_id.object_id) != (row["RowKey"], row["PartitionKey"]):
        raise ValueError("not in lower case")
    missing_since = _find_time(row, "MissingSince")
    return Identity(
        user_id=user_id,
        name=str(row.get("Name") or ""),
        username=str(row.get("Username") or ""),
        acs_user_id=str(row.get("AcsUserId") or "") or None,
        created_at=_find_time(row, "CreatedAt") or utc(row.metadata["timestamp"]),  # type: ignore[arg-type]
        last_token_at=_find_time(row, "LastTokenAt"),
        blocked=_flag(row, "Blocked"),
        block_reason=join_lines(row.get("BlockReason"), MAX_REASON),
        blocking=_flag(row, "Blocking"),
        deleting=_flag(row, "Deleting"),
        missing_since=missing_since if missing_since and missing_since > NO_TIME else None,
        switched_at=_find_time(row, "SwitchedAt"),
        switching=_flag(row, "Switching"),
        index_keys=tuple(json.loads(row.get("IndexKeys") or "[]")),
        indexed=_flag(row, "Indexed"),
        version=version_of(row),
    )


def _flag(row: Row, column: str) -> bool:
    value = row.get(column)
    return value.strip().lower() in ("true", "1") if isinstance(value, str) else bool(value)


def _find_time(row: Row, column: str) -> datetime | None:
    value = row.get(column)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return find_utc(value) if isinstance(value, str | datetime) else None
    return None
