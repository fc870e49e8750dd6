"""Keeps the index rows of a user in step with their mapping row (table `userindex`, see `index_rows`).

The rows are written from the mapping row as just read; then that row records under its ETag what was written.
Every change of the row marks it as not indexed, so a crash in between is noticed when it is next read.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from trusted_service.errors import ChangedTooOften, IndexMissing
from trusted_service.models import Identity, UserId
from trusted_service.storage.attempts import attempts
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.index_rows import index_rows
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.tables import Row, RowChanged, Table, version_of
from trusted_service.storage.transactions import Columns, delete_operation, put_operation

MARKER = ("index", "complete")
VERSION = 2
"""Of the format of the rows; an index of another version must be rebuilt."""


class UserIndex:
    def __init__(self, identities: IdentityTable, table: Table, ledger: Ledger) -> None:
        self._identities = identities
        self.table = table
        self._ledger = ledger
        self._begun = False

    def begin(self) -> None:
        """Mark the index of an empty storage as complete, before the first mapping row is written."""
        if not self._begun:
            with contextlib.suppress(IndexMissing):
                self.require()
            self._begun = True

    def require(self) -> None:
        """Raises IndexMissing if lists would be incomplete."""
        marker = self.table.find(*MARKER)
        if marker is None or marker.get("Version") != VERSION:
            if not self._identities.is_empty():
                raise IndexMissing("Table Storage", "no index of users: run `flask --app wsgi users reindex`")
            self.set_complete()

    def set_complete(self) -> None:
        self.table.put({"PartitionKey": MARKER[0], "RowKey": MARKER[1], "Version": VERSION})

    def update(
        self,
        user_id: UserId,
        identity: Identity | None = None,
        *,
        force: bool = False,
        written: Iterable[str] = (),
    ) -> None:
        """Write the user's index rows from the mapping row. With `force`, even if it is marked as indexed."""
        written = set(written)
        for _ in attempts():
            identity = identity or self._identities.find(user_id)
            if identity is None or identity.deleting:
                self.table.delete_all(user_id.tenant_id, written)
                if not written:
                    return
                # The user may be back already, and have lost rows to that.
                identity, written, force = None, set(), True
                continue
            if identity.indexed and not force and not written:
                return
            if not identity.indexed:
                self._ledger.record(identity)
            rows = index_rows(identity)
            keys = keys_of(rows)
            self.write(user_id.tenant_id, rows, written.union(identity.index_keys).difference(keys))
            written.update(keys)
            if self.record_keys(identity, keys):
                return
            identity = None
        raise ChangedTooOften

    def forget(self, identity: Identity) -> None:
        """Delete the index rows of a user who is being deleted."""
        keys = {*identity.index_keys, *keys_of(index_rows(identity))}
        self.table.delete_all(identity.user_id.tenant_id, keys)

    def record_keys(self, identity: Identity, keys: Iterable[str]) -> bool:
        """Record in the mapping row which rows lead to it; False if it has changed."""
        # A row of another program may have no `CreatedAt`; it gets the one that the index has.
        changes = {"index_keys": tuple(keys), "indexed": True, "created_at": identity.created_at}
        with contextlib.suppress(RowChanged):
            self._identities.update(identity, **changes)
            return True
        return False

    def write(self, tenant_id: str, rows: Sequence[Columns], stale: Iterable[str] = ()) -> None:
        """Write rows and delete the `stale` ones, in one transaction unless one of those is gone already."""
        puts, stale = [put_operation(row) for row in rows], list(stale)
        try:
            self.table.transact([*puts, *(delete_operation(tenant_id, key) for key in stale)])
        except RowChanged:
            self.table.transact(puts)
            self.table.delete_all(tenant_id, stale)

    def list_not_of(self, build: str) -> Iterator[Row]:
        """The keys of every row that this reindexing did not write, and of those of older versions."""
        for row in self.table.query(columns=("Build",)):
            if row.get("Build") != build and (row["PartitionKey"], row["RowKey"]) != MARKER:
                yield row

    def remove(self, row: Row) -> None:
        """Delete a row unless it has been written since it was read."""
        with contextlib.suppress(RowChanged):
            self.table.delete(row["PartitionKey"], row["RowKey"], version=version_of(row))


def keys_of(rows: Iterable[Columns]) -> list[str]:
    return [str(row["RowKey"]) for row in rows]
