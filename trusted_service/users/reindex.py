"""Rebuilds the user index from `identities`, while the service runs, and completes the ledger.

Every written row carries the name of this build. Afterwards, a row without it is stale or was written by the
service meanwhile; the mapping row decides.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from trusted_service.access.user_index import UserIndex, keys_of
from trusted_service.azure.parallel import map_parallel, retry
from trusted_service.models import Identity, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.index_rows import index_rows
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.tables import Row
from trusted_service.storage.transactions import Columns, batches


@dataclass(frozen=True, slots=True)
class Reindex:
    identities: IdentityTable
    ledger: Ledger
    index: UserIndex

    def run(self) -> Iterator[int]:
        """Yield the number of users indexed since the last yield; the index is complete at the end."""
        build = secrets.token_hex(4)
        self.ledger.record_missing(self.identities.all())
        for some in batches(self.identities.all()):
            self._write([one for one in some if not one.deleting], build)
            yield len(some)
        self.index.set_complete()
        for row in self.index.list_not_of(build):
            retry(self._remove_if_stale, row)
            yield 0

    def _write(self, users: list[Identity], build: str) -> None:
        rows = {one.user_id: index_rows(one, build) for one in users}
        for tenant_id, user_ids in groupby(sorted(rows), key=lambda user_id: user_id.tenant_id):
            together = [row for user_id in user_ids for row in rows[user_id]]
            map_parallel(partial(retry, partial(self.index.write, tenant_id)), batches(together))
        map_parallel(partial(retry, lambda one: self._record(one, rows[one.user_id])), users)

    def _record(self, identity: Identity, rows: list[Columns]) -> None:
        keys = keys_of(rows)
        if not self.index.record_keys(identity, keys):
            self.index.update(identity.user_id, force=True, written=keys)

    def _remove_if_stale(self, row: Row) -> None:
        key = str(row["RowKey"])
        try:
            identity = self.identities.find(UserId.parse(row["PartitionKey"], key.rpartition(" ")[2]))
        except ValueError:
            identity = None  # left by an older version
        if identity is not None and not identity.indexed:
            self.index.update(identity.user_id, written=[key])  # an update is in progress, or was interrupted
        elif identity is None or key not in identity.index_keys:
            self.index.remove(row)
