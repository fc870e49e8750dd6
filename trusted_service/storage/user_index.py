"""The table `userindex`: see `index_rows`."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from trusted_service.storage.tables import Columns, Row, RowChanged, Table, delete_operation, put_operation

MARKER = ("index", "complete")
VERSION = 2
"""Of the form of the rows; an index of another version has to be built anew."""


class UserIndexTable:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def is_complete(self) -> bool:
        row = self._table.find(*MARKER)
        return row is not None and row.get("Version") == VERSION

    def set_complete(self) -> None:
        self._table.put({"PartitionKey": MARKER[0], "RowKey": MARKER[1], "Version": VERSION})

    def page(
        self, tenant_id: str, *, start: str, after: str, below: str, limit: int, equal: Columns
    ) -> list[Row]:
        return self._table.range(tenant_id, start=start, after=after, below=below, limit=limit, equal=equal)

    def write(self, tenant_id: str, rows: Sequence[Columns], stale: Iterable[str] = ()) -> None:
        """Write rows and delete the `stale` ones, in one transaction unless one of those is gone already."""
        puts, stale = [put_operation(row) for row in rows], list(stale)
        try:
            self._table.transact([*puts, *(delete_operation(tenant_id, key) for key in stale)])
        except RowChanged:
            self._table.transact(puts)
            self.delete(tenant_id, stale)

    def delete(self, tenant_id: str, keys: Iterable[str]) -> None:
        """Delete rows, in one transaction unless one of them is gone already."""
        keys = list(keys)
        try:
            self._table.transact([delete_operation(tenant_id, key) for key in keys])
        except RowChanged:
            for key in keys:
                self._table.delete(tenant_id, key)

    def not_of(self, build: str) -> Iterator[Row]:
        """The keys of every row that this reindexing did not write, and of what older versions left here."""
        for row in self._table.filtered("", {}, ("Build",)):
            if row.get("Build") != build and (row["PartitionKey"], row["RowKey"]) != MARKER:
                yield row

    def remove(self, row: Row) -> None:
        """Delete a row unless it was written again since it was read."""
        with contextlib.suppress(RowChanged):
            self._table.delete(row["PartitionKey"], row["RowKey"], version=str(row.metadata["etag"]))
