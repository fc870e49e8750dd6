"""Names of actors in rows of older versions: this version stores ids only, and removes the names."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from trusted_service.background import BackgroundTasks
from trusted_service.storage.tables import RowChanged, Table

REMOVED = {"PartitionKey": "former-names", "RowKey": "removed"}
"""A row of the first table: no name is left, so that only the first erasure reads the tables."""


@dataclass(slots=True)
class FormerNames:
    tables: Sequence[Table]
    background: BackgroundTasks
    _running: threading.Lock = field(default_factory=threading.Lock)
    _wanted: bool = False

    def remove_soon(self) -> None:
        """Remove the names in the background: however many erasures ask for it, one run reads the tables."""
        if not self._wanted:
            self._wanted = True
            self.background.run(self._run)

    def remove(self) -> None:
        """Read the tables whole, which can take minutes. Raises UpstreamError; repeating it does the rest."""
        for table in self.tables:
            for row in table.query("ActorName gt @empty", {"empty": ""}, columns=()):
                with suppress(RowChanged):
                    key = {"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]}
                    table.merge({**key, "ActorName": ""})
        self.tables[0].put(REMOVED)

    def _run(self) -> None:
        with self._running:
            self._wanted = False  # names of erasures from here on may have been passed already
            if self.tables[0].find(*REMOVED.values()) is None:
                self.remove()
