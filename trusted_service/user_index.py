"""Keeps the index rows of a user in step with their mapping row.

Writers converge: the rows are written from the mapping row as just read, then that row records under its ETag
what was written. A conflict means that the row has changed meanwhile, and the writer starts again. Whatever
changes the row also marks it as not indexed, so a crash in between is noticed when the row is next read.
"""

import contextlib
from collections.abc import Iterable

from trusted_service.errors import IndexMissing, UpstreamUnavailable
from trusted_service.identity_history import IdentityHistory
from trusted_service.index_rows import index_rows
from trusted_service.models import Identity, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import SERVICE, RowChanged
from trusted_service.storage.user_index import UserIndexTable

ATTEMPTS = 8


class UserIndex:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, identities: IdentityTable, table: UserIndexTable, history: IdentityHistory) -> None:
        self._identities = identities
        self._table = table
        self._history = history
        self._begun = False

    def begin(self) -> None:
        """Mark the index of an empty storage as complete. Comes before the first mapping row is written."""
        if not self._begun:
            with contextlib.suppress(IndexMissing):
                self.require()
            self._begun = True

    def require(self) -> None:
        """Raises IndexMissing where lists would lack somebody."""
        if not self._table.is_complete():
            if not self._identities.is_empty():
                raise IndexMissing
            self._table.set_complete()

    def update(
        self,
        user_id: UserId,
        identity: Identity | None = None,
        *,
        force: bool = False,
        written: Iterable[str] = (),
    ) -> None:
        """Make lists show the user as the row is; `identity` is the row, where it was just read.

        An indexed row is left alone without `force`. `written` are keys that an interrupted update wrote.
        """
        written = set(written)
        for _ in range(ATTEMPTS):
            identity = identity or self._identities.find(user_id)
            if identity is None or identity.deleting:
                self._table.delete(user_id.tenant_id, written)
                if not written:
                    return
                identity, written, force = None, set(), True  # they may be back, and have lost rows to that
                continue
            if identity.indexed and not force and not written:
                return
            if not identity.indexed:
                self._history.record(identity)
            rows = index_rows(identity)
            keys = [str(row["RowKey"]) for row in rows]
            stale = written.union(identity.index_keys).difference(keys)
            self._table.write(user_id.tenant_id, rows, stale)
            written.update(keys)
            if self.record_keys(identity, keys):
                return
            identity = None
        raise UpstreamUnavailable(SERVICE, "the row changed too often")

    def forget(self, identity: Identity) -> None:
        """Delete the index rows of a user who is being deleted."""
        keys = {*identity.index_keys, *(str(row["RowKey"]) for row in index_rows(identity))}
        self._table.delete(identity.user_id.tenant_id, keys)

    def record_keys(self, identity: Identity, keys: Iterable[str]) -> bool:
        """Record in the mapping row which rows lead to it; False where it is another by now."""
        with contextlib.suppress(RowChanged):
            self._identities.set_indexed(identity, tuple(keys))
            return True
        return False
