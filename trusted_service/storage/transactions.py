"""The steps of an entity group transaction: all rows are of one partition, and all change or none.

https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from azure.core import MatchConditions
from azure.data.tables import UpdateMode

MAX_OPERATIONS: Final = 100
"""How many operations one transaction may hold."""

T = TypeVar("T")

Columns = Mapping[str, Any]
"""A row to write: `PartitionKey`, `RowKey` and columns."""

Operation = tuple[str, dict[str, Any], dict[str, Any]]


def put_operation(row: Columns, *, version: str | None = None) -> Operation:
    """Write the whole row: over the one with this version or, without one, whether or not there is one."""
    return ("update" if version else "upsert", dict(row), {"mode": UpdateMode.REPLACE} | if_version(version))


def merge_operation(row: Columns) -> Operation:
    """Change columns of an existing row."""
    return ("update", dict(row), {"mode": UpdateMode.MERGE})


def delete_operation(partition: str, row: str) -> Operation:
    """Delete an existing row."""
    return ("delete", {"PartitionKey": partition, "RowKey": row}, {})


def batches(values: Iterable[T]) -> Iterator[list[T]]:
    """The values in lists of as many as a transaction may hold."""
    rest = iter(values)
    while some := list(itertools.islice(rest, MAX_OPERATIONS)):
        yield some


def if_version(version: str | None) -> dict[str, Any]:
    """The options that let a write fail unless the row has this version."""
    return {"etag": version, "match_condition": MatchConditions.IfNotModified} if version else {}
