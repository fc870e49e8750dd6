"""Changes to many rows of one partition, in transactions side by side."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import UpstreamUnavailable
from trusted_service.storage.attempts import attempts
from trusted_service.storage.tables import RowChanged, Table
from trusted_service.storage.transactions import Operation, batches, delete_operation

THREADS = 4

Change = Callable[[dict[str, str]], Operation]
"""Makes the operation from the keys of a row."""
Choice = Callable[[str], bool]


def delete_all(table: Table, partition: str, chosen: Choice = lambda _: True) -> None:
    """Delete the rows of the partition whose keys are `chosen`."""
    change_all(table, partition, lambda key: delete_operation(partition, key["RowKey"]), chosen)


def change_all(table: Table, partition: str, change: Change, chosen: Choice = lambda _: True) -> None:
    """Apply the `change` of each chosen row. If others delete some meanwhile, do what is then left again."""
    for _ in attempts():
        rows = table.query("PartitionKey eq @partition", {"partition": partition}, columns=())
        keys = ({"PartitionKey": partition, "RowKey": str(row["RowKey"])} for row in rows)
        # Lazy: the first transactions run while the next page is read.
        operations = (change(key) for key in keys if chosen(key["RowKey"]))
        if all(map_parallel(partial(_apply, table), batches(operations), THREADS)):
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
