"""A row is changed by somebody else only where Table Storage says so itself."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import storage_proxy as storage_proxy_module
from tests.support.new_table import new_table
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.errors import UpstreamUnavailable
from trusted_service.storage.tables import RowChanged, Table

Change = Callable[[Table, dict[str, Any], str], object]

CHANGES: dict[str, Change] = {
    "merge": lambda table, row, version: table.merge(row, version=version),
    "replace": lambda table, row, version: table.replace(row, version=version),
}


@pytest.fixture
def table(settings: dict[str, str]) -> Table:
    return new_table(settings)


@pytest.fixture
def row() -> dict[str, Any]:
    return {"PartitionKey": uuid.uuid4().hex, "RowKey": "row", "Column": 1}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_row_that_is_another_or_gone_is_changed(table: Table, row: dict[str, Any], change: Change) -> None:
    first = table.insert(row)
    second = table.merge(row | {"Column": 2})
    with pytest.raises(RowChanged):
        change(table, row, first)
    table.delete(row["PartitionKey"], row["RowKey"])
    with pytest.raises(RowChanged):
        change(table, row, second)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_404_of_something_in_between_is_an_outage(
    monkeypatch: pytest.MonkeyPatch,
    table: Table,
    row: dict[str, Any],
    change: Change,
    storage_proxy: StorageProxy,
) -> None:
    version = table.insert(row)
    monkeypatch.setattr(storage_proxy_module, "REFUSAL", b"Not here.")
    storage_proxy.plant(Fault(kind="status", status=404, method="P", about=row["PartitionKey"]))
    with pytest.raises(UpstreamUnavailable):
        change(table, row, version)
