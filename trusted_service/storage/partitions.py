"""Changes to many rows of one partition, in transactions side by side."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import UpstreamUnavailable
from trusted_service.storage.tables import RowChanged, Table
from trusted_service.storage.transactions import Operation, batches, delete_operation

ATTEMPTS, THREADS = 8, 4
NEVER = datetime.min.replace(tzinfo=UTC)

Choice = Callable[[str], bool]


def delete_all(table: Table, partition: str, chosen: Choice = lambda _: True) -> None:
    """Delete the rows of the partition whose keys are `chosen`, those with the latest `SeenAt` first."""
    change_all(table, partition, partial(delete_operation, partition), chosen)


def change_all(
    table: Table, partition: str, change: Callable[[str], Operation], chosen: Choice = lambda _: True
) -> None:
    """Apply the `change` of each chosen row. If others delete some meanwhile, do what is then left again."""
    for _ in range(ATTEMPTS):
        rows = list(table.query("PartitionKey eq @partition", {"partition": partition}, columns=("SeenAt",)))
        rows.sort(key=lambda row: row.get("SeenAt") or NEVER, reverse=True)
        keys = (str(row["RowKey"]) for row in rows)
        operations = [change(key) for key in keys if chosen(key)]
        if all(map_parallel(partial(_apply, table), list(batches(operations)), THREADS)):
            return
    raise UpstreamUnavailable("Table Storage", "the rows changed too often")


def _apply(table: Table, operations: Sequence[Operation]) -> bool:
    """Apply all of them or none; False if one of the rows is gone."""
    kind, row, _ = operations[0]
    with suppress(RowChanged):
        if len(operations) == 1 and kind == "delete":
            table.delete(row["PartitionKey"], row["RowKey"])  # costs less than a transaction
        else:
            table.transact(operations)
        return True
    return False
