"""A storage with every kind of user and ledger entry, and what a restored one must have in common with it."""

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient

from tests.support.rows import FORMER_RESOURCE, empty
from tests.support.seed import identity_row, ledger_row, make_users, put_rows, seed_users
from trusted_service.access.user_index import VERSION
from trusted_service.models import Identity
from trusted_service.storage.index_rows import index_rows

TABLES = ("identities", "ledger", "userindex")
Snapshot = dict[str, dict[tuple[str, str], dict[str, Any]]]


def fill(settings: Mapping[str, str], count: int) -> list[Identity]:
    """Plant `count` users of whom some are blocked or had another identity, and what has no identity."""
    users = seed_users(settings, count, blocked=0.1)
    resource = (users[0].acs_user_id or "").partition("_")[0]
    # Two days ago: the tokens of another resource, which a block cannot revoke, have ended.
    now = (datetime.now(UTC) - timedelta(days=2)).replace(microsecond=123456)
    for user in users[: count // 20]:  # of a resource from which users were moved
        row = {**identity_row(user, indexed=True), "SwitchedAt": now, "BlockReason": "left, é"}
        put_rows(settings, "identities", [row])
        former = replace(user, acs_user_id=f"{FORMER_RESOURCE}_{uuid.uuid4()}")
        ended: dict[str, object] = {**ledger_row(former), "Until": now, "Reason": "moved"}
        current: dict[str, object] = {**ledger_row(user), "Since": now}
        copies = [_copy(one, user) for one in (ended, current)]
        put_rows(settings, "ledger", [ended, current, *copies])
    tenant = users[0].user_id.tenant_id
    never, half, gone, lost = make_users(4, tenant, resource.rpartition(":")[2])
    block = {**identity_row(replace(never, acs_user_id=None, blocked=True), indexed=True), "BlockReason": "x"}
    put_rows(settings, "identities", [block, {**identity_row(half), "Deleting": True}])
    put_rows(settings, "userindex", index_rows(replace(never, acs_user_id=None, blocked=True)))
    erased = {**ledger_row(gone), "TenantId": "", "ObjectId": "", "Reason": "deleted"}
    del erased["Since"]
    put_rows(settings, "ledger", [erased, ledger_row(half), ledger_row(lost)])
    pin = {"PartitionKey": "resource", "RowKey": "pin", "Resource": resource, "Former": FORMER_RESOURCE}
    put_rows(settings, "ledger", [pin])
    put_rows(settings, "userindex", [{"PartitionKey": "index", "RowKey": "complete", "Version": VERSION}])
    return users


def _copy(row: Mapping[str, object], user: Identity) -> dict[str, object]:
    partition = f"user-{user.user_id.object_id}-{user.user_id.tenant_id}"
    return {**row, "PartitionKey": partition, "RowKey": row["PartitionKey"]}


def wipe(settings: Mapping[str, str]) -> None:
    empty(settings, *TABLES)


def snapshot(settings: Mapping[str, str], *, versions: bool = False) -> Snapshot:
    """Every row but the marker of the index, with the columns that hold something."""
    found: Snapshot = {}
    with TableServiceClient.from_connection_string(settings["TABLE_STORAGE_CONNECTION_STRING"]) as tables:
        for name in TABLES:
            found[name] = {}
            with contextlib.suppress(ResourceNotFoundError):
                for row in tables.get_table_client(name).list_entities():
                    key = (row["PartitionKey"], row["RowKey"])
                    columns = {column: value for column, value in row.items() if value}
                    if key not in (("index", "complete"), ("resource", "canary")):
                        found[name][key] = columns | ({"etag": row.metadata["etag"]} if versions else {})
    return found


def differences(one: Snapshot, other: Snapshot) -> list[tuple[object, object, object]]:
    """The cells that differ: the table with the row's keys and the column, and both values."""
    return [
        ((table, *key, column), first, second)
        for table in TABLES
        for key in sorted({*one[table], *other[table]})
        for column in sorted({*one[table].get(key, {}), *other[table].get(key, {})})
        for first, second in [(one[table].get(key, {}).get(column), other[table].get(key, {}).get(column))]
        if first != second
    ]
