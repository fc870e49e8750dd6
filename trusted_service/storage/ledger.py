"""The ledger: every ACS identity that a mapping has ever named, and whose it is.

Table `ledger`:

- `<ACS user id in lower case>/identity`: one row for each identity. Its key alone makes it unique over all
  tenants, so inserting it if absent is the claim to the identity.
- `user-<object id>-<tenant id>/<ACS user id in lower case>`: a copy for a user with more than one identity,
  so that they are found by their owner. The first identity gets it when it ends, a later one when it begins.
- `resource/pin`, `resource/canary`: see `access.resource_pin` and `observability.canary`.

An identity that stops being current is recorded before the mapping names another one, so a crash in between
loses no identity.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog

from trusted_service.azure.parallel import map_parallel, retry
from trusted_service.errors import UpstreamUnavailable
from trusted_service.models import Identity, LedgerEntry, Reason, UserId, find_resource
from trusted_service.storage.tables import Row, RowChanged, RowExists, Table, find_utc, version_of

log = structlog.get_logger(__name__)

ROW_KEY = "identity"


class IdentityTaken(Exception):
    """The ACS identity belongs to another user, or was erased."""


class Ledger:
    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, acs_user_id: str) -> LedgerEntry | None:
        """The entry of the identity, regardless of letter case."""
        if find_resource(acs_user_id) is None:
            return None
        row = self._table.find(acs_user_id.lower(), ROW_KEY)
        return None if row is None else _entry(row)

    def all(self) -> Iterator[LedgerEntry]:
        """Every entry, in no particular order, a page in memory at a time."""
        return (_entry(row) for row in self._table.query() if row["RowKey"] == ROW_KEY)

    def claim(self, owner: UserId, acs_user_id: str, since: datetime) -> bool:
        """Record the identity as the user's; False if it is already. Raises IdentityTaken."""
        return self._add(LedgerEntry(acs_user_id=acs_user_id, owner=owner, since=since))

    def restore(self, entry: LedgerEntry) -> None:
        """Add an entry that is missing. Raises IdentityTaken, and RowChanged after an erasure."""
        self._add(entry)
        key = entry.acs_user_id.lower()
        if entry.owner and entry.until and self._table.find(_partition(entry.owner), key) is None:
            self._put_copy(entry)

    def _add(self, entry: LedgerEntry) -> bool:
        try:
            self._table.insert(_row(entry))
        except RowExists:
            here = self.find(entry.acs_user_id)
            if here is None:
                raise UpstreamUnavailable("Table Storage", "a conflicting row is gone") from None
            if here.owner != entry.owner:
                raise IdentityTaken from None
            return False
        return True

    def withdraw(self, acs_user_id: str) -> None:
        """Undo a claim before a mapping row names the identity."""
        self._table.delete(acs_user_id.lower(), ROW_KEY)

    def record(self, identity: Identity) -> None:
        """Record whose the row's identity is. One that belongs to another user is logged."""
        acs_user_id = identity.acs_user_id or ""
        if find_resource(acs_user_id) is None:
            return
        try:
            self.claim(identity.user_id, acs_user_id, identity.acs_user_since)
        except IdentityTaken:
            if (entry := self.find(acs_user_id)) is None or entry.owner is not None:  # else erased meanwhile
                log.error("identity_taken", user=str(identity.user_id), acs_user_id=acs_user_id)
            return
        if identity.switched_at is not None and (entry := self.find(acs_user_id)) is not None:
            with contextlib.suppress(RowChanged):
                self._put_copy(entry)

    def record_missing(self, identities: Iterable[Identity]) -> None:
        """Record the identities that have no entry. Holds the ids of all entries in memory."""
        known = {entry.acs_user_id.lower() for entry in self.all()}
        missing = (one for one in identities if (one.acs_user_id or "").lower() not in known)
        map_parallel(partial(retry, self.record), missing)

    def end(self, identity: Identity, reason: Reason) -> None:
        """Record that the row is about to name another identity. Raises RowChanged."""
        acs_user_id = identity.acs_user_id or ""
        entry = self.find(acs_user_id)
        if entry is None:
            self.record(identity)
            entry = self.find(acs_user_id)
        if entry is not None and entry.owner == identity.user_id:
            self._replace(replace(entry, until=datetime.now(UTC), reason=reason))

    def reopen(self, entry: LedgerEntry) -> None:
        """Record that a former identity is its owner's current one again. Raises RowChanged."""
        self._replace(replace(entry, until=None, reason=None))

    def all_of(self, identity: Identity) -> list[LedgerEntry]:
        """The current identity of the user, if there is one, and the former ones."""
        acs_user_id, since = identity.acs_user_id, identity.acs_user_since
        if acs_user_id is None:
            return self.former(identity)
        current = LedgerEntry(acs_user_id=acs_user_id, owner=identity.user_id, since=since)
        return [current, *self.former(identity)]

    def owned_by(self, owner: UserId) -> list[LedgerEntry]:
        """The identities of a user, perhaps without a row. Reads the whole table."""
        return [entry for entry in self.all() if entry.owner == owner]

    def former(self, identity: Identity) -> list[LedgerEntry]:
        """The former identities of the user, the last one first."""
        copies = map(_entry, self._table.partition(_partition(identity.user_id)))
        former = [entry for entry in copies if entry.acs_user_id != identity.acs_user_id]
        return sorted(former, key=lambda entry: entry.ended_at, reverse=True)

    def erase(self, identity: Identity) -> None:
        """Keep nothing of the user's identities but their ids, which can never be claimed again.

        No time either: that of the deletion in the audit trail would lead to the user.
        """
        owner = identity.user_id
        for acs_user_id in (entry.acs_user_id for entry in self.all_of(identity)):
            if find_resource(acs_user_id) is None:
                continue
            entry = self.find(acs_user_id)
            if entry is None or entry.owner == owner:
                erased = LedgerEntry(acs_user_id=acs_user_id, owner=None, reason="deleted")
                self._table.put(_row(erased))
            self._table.delete(_partition(owner), acs_user_id.lower())

    def _replace(self, entry: LedgerEntry) -> None:
        self._table.replace(_row(entry), version=entry.version)
        self._put_copy(entry)

    def _put_copy(self, entry: LedgerEntry) -> None:
        """Write the copy by which the owner's identities are found. Raises RowChanged after an erasure."""
        while entry.owner is not None:
            key = {"PartitionKey": _partition(entry.owner), "RowKey": entry.acs_user_id.lower()}
            self._table.put(_row(entry) | key)
            current = self.find(entry.acs_user_id)
            if current is None or current.owner != entry.owner:
                self._table.delete(key["PartitionKey"], key["RowKey"])
                raise RowChanged
            if current.until == entry.until:
                return
            entry = current  # it has ended or been reopened meanwhile


def _partition(owner: UserId) -> str:
    return f"user-{owner.object_id}-{owner.tenant_id}"


def _row(entry: LedgerEntry) -> dict[str, object]:
    owner = entry.owner
    times = {"Since": entry.since, "Until": entry.until}
    return {
        "PartitionKey": entry.acs_user_id.lower(),
        "RowKey": ROW_KEY,
        "AcsUserId": entry.acs_user_id,
        "TenantId": owner.tenant_id if owner else "",
        "ObjectId": owner.object_id if owner else "",
        "Reason": entry.reason or "",
        **{name: time for name, time in times.items() if time is not None},
    }


def _entry(row: Row) -> LedgerEntry:
    return LedgerEntry(
        acs_user_id=row["AcsUserId"],
        owner=UserId(row["TenantId"], row["ObjectId"]) if row["ObjectId"] else None,
        since=find_utc(row.get("Since")),
        until=find_utc(row.get("Until")),
        reason=row["Reason"] or None,
        version=version_of(row),
    )
