"""The table `ledger`: every ACS identity that a mapping has ever named, and whose it is.

- `<ACS user id in lower case>/identity`: one row for each identity. Its key alone makes it unique over all
  tenants, so inserting it if absent is the claim to the identity.
- `user-<object id>-<tenant id>/<ACS user id in lower case>`: the same for a user with more than one identity,
  so that they are found by their owner. The first identity gets it when it ends, a later one when it begins.
- `resource/pin`: the Communication Services resource that this storage belongs to.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from trusted_service.errors import UpstreamUnavailable
from trusted_service.models import LedgerEntry, UserId
from trusted_service.storage.tables import SERVICE, Columns, Row, RowExists, Table, find_utc

ROW_KEY = "identity"
PIN = ("resource", "pin")


class IdentityTaken(Exception):
    """The ACS identity belongs to somebody else, or was erased."""

    def __init__(self, entry: LedgerEntry) -> None:
        super().__init__(entry.acs_user_id)
        self.entry = entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """The resource that new identities must belong to, and those that users are moving away from
    (`8:acs:<GUID>`)."""

    resource: str
    former: frozenset[str] = field(default_factory=frozenset)
    version: str = ""


class LedgerTable:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, acs_user_id: str) -> LedgerEntry | None:
        row = self._table.find(acs_user_id.lower(), ROW_KEY)
        return None if row is None else _entry(row)

    def claim(self, owner: UserId, acs_user_id: str, since: datetime) -> bool:
        """Record the identity as the user's; False where it is already. Raises IdentityTaken where it is not
        theirs."""
        try:
            self._table.insert(_row(LedgerEntry(acs_user_id=acs_user_id, owner=owner, since=since)))
        except RowExists:
            entry = self.find(acs_user_id)
            if entry is None:
                raise UpstreamUnavailable(SERVICE, "the row that was in the way is gone") from None
            if entry.owner != owner:
                raise IdentityTaken(entry) from None
            return False
        return True

    def erase(self, owner: UserId, acs_user_id: str) -> None:
        """Keep nothing of the identity but its id; somebody else's is left alone."""
        known = self.find(acs_user_id)
        erased = LedgerEntry(
            acs_user_id=acs_user_id, owner=None, since=None, until=datetime.now(UTC), reason="deleted"
        )
        if known is None or known.owner == owner:
            self._table.put(_row(erased))

    def withdraw(self, acs_user_id: str) -> None:
        """Undo a claim that no row has come to name."""
        self._table.delete(acs_user_id.lower(), ROW_KEY)

    def replace(self, entry: LedgerEntry) -> None:
        """Write what is known of the identity now. Raises RowChanged where it is not as `entry` was read."""
        self._table.replace(_row(entry), version=entry.version)

    def put_by_owner(self, entry: LedgerEntry) -> None:
        """Record the identity among those of its owner."""
        if entry.owner is not None:
            self._table.put(_row(entry) | _key_by_owner(entry.owner, entry.acs_user_id))

    def list_by_owner(self, owner: UserId) -> list[LedgerEntry]:
        """The identities that are recorded among those of the user."""
        return [_entry(row) for row in self._table.partition(_key_by_owner(owner, "")["PartitionKey"])]

    def delete_by_owner(self, owner: UserId, acs_user_id: str) -> None:
        key = _key_by_owner(owner, acs_user_id)
        self._table.delete(key["PartitionKey"], key["RowKey"])

    def all(self) -> Iterator[LedgerEntry]:
        """Every entry, a page in memory at a time."""
        return (_entry(row) for row in self._table.all() if row["RowKey"] == ROW_KEY)

    def find_pin(self) -> Pin | None:
        row = self._table.find(*PIN)
        if row is None:
            return None
        former = frozenset(word for word in str(row.get("Former") or "").split(",") if word)
        return Pin(resource=row["Resource"], former=former, version=str(row.metadata["etag"]))

    def insert_pin(self, pin: Pin) -> None:
        """Raises RowExists where there is one."""
        self._table.insert(_pin_row(pin))

    def replace_pin(self, pin: Pin, *, version: str) -> None:
        """Raises RowChanged where the pin is not the one of this version."""
        self._table.replace(_pin_row(pin), version=version)


def _pin_row(pin: Pin) -> Columns:
    partition, row = PIN
    former = ",".join(sorted(pin.former))
    return {"PartitionKey": partition, "RowKey": row, "Resource": pin.resource, "Former": former}


def _key_by_owner(owner: UserId, acs_user_id: str) -> dict[str, str]:
    return {
        "PartitionKey": f"user-{owner.object_id}-{owner.tenant_id}",
        "RowKey": acs_user_id.lower(),
    }


def _row(entry: LedgerEntry) -> dict[str, object]:
    owner = entry.owner
    moments = {"Since": entry.since, "Until": entry.until}
    return {
        "PartitionKey": entry.acs_user_id.lower(),
        "RowKey": ROW_KEY,
        "AcsUserId": entry.acs_user_id,
        "TenantId": owner.tenant_id if owner else "",
        "ObjectId": owner.object_id if owner else "",
        "Reason": entry.reason or "",
        **{name: moment for name, moment in moments.items() if moment is not None},
    }


def _entry(row: Row) -> LedgerEntry:
    return LedgerEntry(
        acs_user_id=row["AcsUserId"],
        owner=UserId(row["TenantId"], row["ObjectId"]) if row["ObjectId"] else None,
        since=find_utc(row.get("Since")),
        until=find_utc(row.get("Until")),
        reason=row["Reason"] or None,
        version=str(row.metadata["etag"]),
    )
