"""Thousands of users, written in few calls: a hundred share an object id, each in a tenant of its own."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from azure.data.tables import TableServiceClient

from tests.seed import identity_row
from tests.support.fast_tables import FastTables
from trusted_service.models import Identity, UserId

TENANTS = 100


def plant_crowd(settings: Mapping[str, str], count: int) -> list[Identity]:
    """Write so many users, older than a week, and return them."""
    connection_string = settings["TABLE_STORAGE_CONNECTION_STRING"]
    tables = TableServiceClient.from_connection_string(connection_string)
    tables.create_table_if_not_exists("identities")
    tenants = [str(uuid.uuid4()) for _ in range(TENANTS)]
    object_ids = [str(uuid.uuid4()) for _ in range(-(-count // TENANTS))]
    users = [
        _user(UserId(tenants[number % TENANTS], object_ids[number // TENANTS]), number)
        for number in range(count)
    ]
    fast = FastTables(connection_string)
    fast.put("identities", [identity_row(user) for user in users])
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
