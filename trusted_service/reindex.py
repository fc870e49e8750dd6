"""Builds the user index anew from `identities`, while the service runs.

Every row that is written carries the name of this build. A row without it afterwards is stale, or was written
by the service meanwhile: the mapping row tells. After an interruption some rows may be outdated until the
next run. Also completes the ledger with the identities that rows name.
"""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice

from trusted_service.identity_history import IdentityHistory
from trusted_service.index_rows import index_rows
from trusted_service.models import Identity, UserId
from trusted_service.retry import retry, retry_each
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import Columns, Row
from trusted_service.storage.user_index import UserIndexTable
from trusted_service.user_index import UserIndex

USERS_AT_ONCE, WRITTEN_AT_ONCE, THREADS = 200, 50, 4


class Reindex:
    """Methods raise UpstreamError where the storage fails, and may then be called again."""

    def __init__(
        self, identities: IdentityTable, table: UserIndexTable, index: UserIndex, history: IdentityHistory
    ) -> None:
        self._identities = identities
        self._table = table
        self._index = index
        self._history = history

    def run(self) -> Iterator[int]:
        """Yield how many more users are done, every few hundred; the index is complete at the end."""
        build = secrets.token_hex(4)
        self._history.record_missing(self._identities.all())
        users = self._identities.all()
        with ThreadPoolExecutor(THREADS) as pool:
            while some := list(islice(users, USERS_AT_ONCE)):
                self._write([one for one in some if not one.deleting], build, pool)
                yield len(some)
            self._table.set_complete()
            for row in self._table.not_of(build):
                retry(self._remove_if_stale, row)
                yield 0

    def _write(self, users: list[Identity], build: str, pool: ThreadPoolExecutor) -> None:
        rows = {one.user_id: index_rows(one, build) for one in users}
        for tenant_id, user_ids in groupby(sorted(rows), key=lambda user_id: user_id.tenant_id):
            together = [row for user_id in user_ids for row in rows[user_id]]
            starts = range(0, len(together), WRITTEN_AT_ONCE)
            chunks = (together[start : start + WRITTEN_AT_ONCE] for start in starts)
            retry_each(pool, partial(self._table.write, tenant_id), chunks)
        retry_each(pool, lambda one: self._record(one, rows[one.user_id]), users)

    def _record(self, identity: Identity, rows: list[Columns]) -> None:
        keys = [str(row["RowKey"]) for row in rows]
        if not self._index.record_keys(identity, keys):
            self._index.update(identity.user_id, force=True, written=keys)

    def _remove_if_stale(self, row: Row) -> None:
        key = str(row["RowKey"])
        try:
            identity = self._identities.find(UserId.parse(row["PartitionKey"], key.rpartition(" ")[2]))
        except ValueError:
            identity = None  # left by an older version
        if identity is not None and not identity.indexed:
            self._index.update(identity.user_id, written=[key])  # the service is about to, or died over it
        elif identity is None or key not in identity.index_keys:
            self._table.remove(row)
