"""Blocks in progress: rows of the table `sessions` by which other processes finish what a crash ended.

A row that stays the same from one poll to the next belongs to a process that died or is slow, so no clock
matters. A version that only one process can change lets that one finish the block.
"""

from collections.abc import Iterator
from contextlib import suppress

from trusted_service.models import UserId
from trusted_service.storage.tables import RowChanged, Table, version_of

PARTITION = "unfinished-blocks"


class OpenBlocks:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._seen: dict[str, str] | None = None

    def add(self, user_id: UserId) -> None:
        self._table.put({"PartitionKey": PARTITION, "RowKey": ".".join(user_id)})

    def remove(self, user_id: UserId, *, version: str | None = None) -> None:
        """Remove the block; not if it is not at the given version, as another block has begun."""
        with suppress(RowChanged):
            self._table.delete(PARTITION, ".".join(user_id), version=version)

    def claim(self) -> Iterator[tuple[UserId, str]]:
        """Take over, oldest first, the blocks that the last poll has seen too, with their versions.

        The first poll takes over all: the process that this one replaces may have died a second ago.
        """
        rows = sorted(self._table.partition(PARTITION), key=lambda row: row.metadata["timestamp"])  # type: ignore[arg-type, return-value]
        seen, self._seen = self._seen, {str(row["RowKey"]): version_of(row) for row in rows}
        for key, version in self._seen.items():
            if seen is None or seen.get(key) == version:
                with suppress(RowChanged):  # another process took it over
                    claimed = self._table.merge({"PartitionKey": PARTITION, "RowKey": key}, version=version)
                    yield UserId(*key.split(".")), claimed
