"""Thousands of users, written in few calls: a hundred share an object id, each in a tenant of its own."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from azure.data.tables import TableServiceClient

from tests.support.fast_tables import FastTables, Row
from trusted_service.models import Identity, UserId
from trusted_service.storage.user_index import index_keys

TENANTS = 100


def plant_crowd(settings: Mapping[str, str], count: int) -> list[Identity]:
    """Write so many users, older than a week, and what leads searches to their names; return them."""
    connection_string = settings["TABLE_STORAGE_CONNECTION_STRING"]
    tables = TableServiceClient.from_connection_string(connection_string)
    for table in ("identities", "userindex"):
        tables.create_table_if_not_exists(table)
    tenants = [str(uuid.uuid4()) for _ in range(TENANTS)]
    object_ids = [str(uuid.uuid4()) for _ in range(-(-count // TENANTS))]
    users = [
        _user(UserId(tenants[number % TENANTS], object_ids[number // TENANTS]), number)
        for number in range(count)
    ]
    fast = FastTables(connection_string)
    fast.insert("identities", [_row(user) for user in users])
    fast.insert("userindex", [row for user in users for row in _index_rows(user)])
    tables.get_table_client("userindex").upsert_entity({"PartitionKey": "meta", "RowKey": "built"})
    tables.close()
    return users


def _user(user_id: UserId, number: int) -> Identity:
    created_at = datetime.now(UTC) - timedelta(days=7, minutes=number)
    return Identity(
        user_id=user_id,
        name=f"Crowd {number:05d}",
        username=f"crowd.{number:05d}@contoso.example",
        acs_user_id=f"8:acs:{uuid.UUID(int=1)}_{uuid.uuid4()}",
        created_at=created_at,
        last_token_at=created_at,
        blocked=False,
        version="",
    )


def _row(user: Identity) -> Row:
    return {
        "PartitionKey": user.user_id.object_id,
        "RowKey": user.user_id.tenant_id,
        "AcsUserId": user.acs_user_id or "",
        "Name": user.name,
        "Username": user.username,
        "CreatedAt": user.created_at,
        "LastTokenAt": user.created_at,
        "Blocked": user.blocked,
        "IndexKeys": json.dumps(index_keys(user)),
    }


def _index_rows(user: Identity) -> list[Row]:
    tenant_id, object_id = user.user_id
    return [
        {"PartitionKey": partition, "RowKey": row, "TenantId": tenant_id, "ObjectId": object_id}
        for partition, row in index_keys(user)
        if not partition.startswith("acs-")  # a partition for each: no batches
    ]
