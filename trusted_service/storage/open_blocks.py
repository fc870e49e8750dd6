"""Blocks in progress: rows of the table `jobs` by which other processes finish what a crash ended.

A row that polls find unchanged for longer than a request may take has lost its process: no clock matters.
Who changes its version first finishes the block.
"""

import time
from collections.abc import Iterator
from contextlib import suppress

from trusted_service.azure.deadlines import REQUEST_SECONDS
from trusted_service.models import UserId
from trusted_service.storage.tables import RowChanged, Table, version_of

PARTITION = "unfinished-blocks"
IN_PROGRESS_SECONDS = REQUEST_SECONDS + 1
"""Two that end thousands of sessions of one user at once hinder each other."""


class OpenBlocks:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._seen: dict[tuple[str, str], float] | None = None  # since when, by key and version

    def add(self, user_id: UserId) -> None:
        self._table.put({"PartitionKey": PARTITION, "RowKey": ".".join(user_id)})

    def remove(self, user_id: UserId, *, version: str | None = None) -> None:
        """Remove the block; not if it is not at the given version, as another block has begun."""
        with suppress(RowChanged):
            self._table.delete(PARTITION, ".".join(user_id), version=version)

    def claim(self, in_progress: float = IN_PROGRESS_SECONDS) -> Iterator[tuple[UserId, str]]:
        """Take over, oldest first, the blocks seen unchanged for so long, each with its version.

        The first poll takes over all: the process that this one replaces may have died a second ago.
        """
        rows = sorted(self._table.partition(PARTITION), key=lambda row: row.metadata["timestamp"])  # type: ignore[arg-type, return-value]
        before, now = self._seen, time.monotonic()
        keys = [(str(row["RowKey"]), version_of(row)) for row in rows]
        self._seen = {key: now if before is None else before.get(key, now) for key in keys}
        for (key, version), since in self._seen.items():
            if before is None or now - since >= in_progress:
                with suppress(RowChanged):  # another process took it over
                    claimed = self._table.merge({"PartitionKey": PARTITION, "RowKey": key}, version=version)
                    yield UserId(*key.split(".")), claimed
