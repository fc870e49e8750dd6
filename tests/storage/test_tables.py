"""A row counts as changed or deleted only if Table Storage itself says so."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from tests.support import storage_proxy as storage_proxy_module
from tests.support.new_table import new_table
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.errors import UpstreamUnavailable
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import RowChanged, Table
from trusted_service.storage.transactions import put_operation

Call = Callable[[Table, dict[str, Any], str], object]

CHANGES: dict[str, Call] = {
    "merge": lambda table, row, version: table.merge(row, version=version),
    "replace": lambda table, row, version: table.replace(row, version=version),
}
CALLS = CHANGES | {
    "find": lambda table, row, _: table.find(row["PartitionKey"], row["RowKey"]),
    "delete": lambda table, row, version: table.delete(row["PartitionKey"], row["RowKey"], version=version),
}


@pytest.fixture
def table(settings: dict[str, str]) -> Table:
    return new_table(settings)


@pytest.fixture
def row() -> dict[str, Any]:
    return {"PartitionKey": uuid.uuid4().hex, "RowKey": "row", "Column": 1}


def test_table_deleted_again_is_an_outage(
    storage_proxy: StorageProxy, table: Table, row: dict[str, Any], tables: TableServiceClient
) -> None:
    delete = partial(tables.delete_table, table._client.table_name)
    storage_proxy.plant(Fault(kind="signal", method="POST", table="$batch", action=delete))
    with pytest.raises(UpstreamUnavailable, match="TableNotFound"):
        table.transact([put_operation(row)])


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_or_deleted_row_is_reported(table: Table, row: dict[str, Any], change: Call) -> None:
    first = table.insert(row)
    second = table.merge(row | {"Column": 2})
    with pytest.raises(RowChanged):
        change(table, row, first)
    table.delete(row["PartitionKey"], row["RowKey"])
    with pytest.raises(RowChanged):
        change(table, row, second)


def test_unreadable_row_hides_no_mapped_one(table: Table) -> None:
    for key in ("0", str(uuid.uuid4())):
        table.insert({"PartitionKey": key, "RowKey": key, "AcsUserId": f"8:acs:{key}"})
    first = IdentityTable(table, table).find_first_mapped()
    assert first is not None
    assert first.acs_user_id == f"8:acs:{key}"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_gateway_404_is_an_outage(
    monkeypatch: pytest.MonkeyPatch,
    storage_proxy: StorageProxy,
    table: Table,
    row: dict[str, Any],
    call: Call,
) -> None:
    version = table.insert(row)
    for body in (b"Not here.", b"", b"{}"):
        monkeypatch.setattr(storage_proxy_module, "REFUSAL", body)
        storage_proxy.plant(Fault(kind="status", status=404, about=row["PartitionKey"]))
        with pytest.raises(UpstreamUnavailable):
            call(table, row, version)
        storage_proxy.clear()
        assert table.find(row["PartitionKey"], row["RowKey"]) is not None
