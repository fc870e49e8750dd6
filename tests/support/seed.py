"""Fills the tables with users, as the service would, or with the contract's columns alone."""

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import requests
from azure.communication.identity import CommunicationIdentityClient
from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableServiceClient

from trusted_service.models import Identity, UserId
from trusted_service.storage.index_rows import index_rows

Row = Mapping[str, object]

THREADS, BATCH, ATTEMPTS = 4, 100, 5
YEARS = timedelta(days=730)
FIRST = ["Ada", "Bjørn", "Chloé", "Dmitri", "Élodie", "Fatima", "Håkon", "Inês", "José", "Kenji", "Łucja"]
LAST = ["Åberg", "Brontë", "Çelik", "Dvořák", "Ekström", "García", "Hopper", "Ivanov", "Jansen", "Müller"]
TENANTS = 100


def seed_users(
    settings: Mapping[str, str],
    count: int,
    *,
    acs: bool = False,
    tenant_id: str | None = None,
    blocked: float = 0.0,
    name: str = "",
) -> list[Identity]:
    """Write new users, of whom the share `blocked` is blocked; with `acs`, their identities are live."""
    tenant = tenant_id or settings["ENTRA_ALLOWED_TENANTS"].split(",")[0]
    acs_user_ids = create_identities(settings, count) if acs else None
    document = requests.get(settings["LOCAL_AZURE_CONTROL_URL"] + "/acs", timeout=30).json()
    users = make_users(count, tenant, document["endpoints"][0]["resourceId"], acs_user_ids, blocked=blocked)
    if name:
        users = [replace(user, name=name) for user in users]
    put_rows(settings, "userindex", [row for user in users for row in index_rows(user)])
    put_rows(settings, "ledger", [ledger_row(user) for user in users])
    put_rows(settings, "identities", [identity_row(user, indexed=True) for user in users])
    return users


def put_rows(settings: Mapping[str, str], table: str, rows: Sequence[Row]) -> None:
    """Insert or replace rows, in batches per partition."""
    partitions: dict[object, list[tuple[str, Row]]] = {}
    for row in rows:
        partitions.setdefault(row["PartitionKey"], []).append(("upsert", row))
    batches = [group[at : at + BATCH] for group in partitions.values() for at in range(0, len(group), BATCH)]
    connection_string = settings["TABLE_STORAGE_CONNECTION_STRING"]
    with TableServiceClient.from_connection_string(connection_string) as tables:
        client = tables.create_table_if_not_exists(table)

        def put(batch: list[tuple[str, Row]]) -> None:
            for _ in range(ATTEMPTS):
                with suppress(ServiceResponseError):  # Azurite now and then resets a connection
                    client.submit_transaction(batch)
                    return
            raise AssertionError(f"Azurite reset {ATTEMPTS} connections in a row")

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(put, batches))


def plant_crowd(settings: Mapping[str, str], count: int, *, name: str = "") -> None:
    """Write `count` users without index rows: a hundred share an object id, each in another tenant."""
    tenants = [str(uuid.uuid4()) for _ in range(TENANTS)]
    keys = [(str(uuid.uuid4()), tenant) for _ in range(-(-count // TENANTS)) for tenant in tenants]
    users = make_users(count, tenants[0], str(uuid.UUID(int=1)))
    rows = [
        {**identity_row(replace(user, name=name)), "PartitionKey": key[0], "RowKey": key[1]}
        for user, key in zip(users, keys, strict=False)
    ]
    put_rows(settings, "identities", rows)


def plant_events(
    settings: Mapping[str, str],
    count: int,
    age: timedelta,
    target: UserId | None = None,
    *,
    outcome: str = "done",
) -> None:
    """Write `count` events of this age to the audit trail, about this user if there is one."""
    at = datetime.now(UTC) - age
    event: dict[str, object] = dict.fromkeys(("ActorName", "Detail", "RequestId"), "")
    event |= {"ActionId": "planted", "At": at, "Action": "block", "Outcome": outcome}
    event |= {"ActorKind": "system", "ActorKey": "system"}
    event |= {"TargetTenantId": target.tenant_id if target else ""}
    event |= {"TargetObjectId": target.object_id if target else ""}
    partitions = ["all", *([f"user-{target.object_id}-{target.tenant_id}"] if target else [])]
    keys = [f"{10**17 - int(at.timestamp() * 1_000_000):017d}-{number:08x}" for number in range(count)]
    rows = [{**event, "PartitionKey": one, "RowKey": key} for one in partitions for key in keys]
    put_rows(settings, "audit", rows)


def make_users(
    count: int,
    tenant_id: str,
    resource_id: str,
    acs_user_ids: list[str] | None = None,
    *,
    blocked: float = 0.0,
) -> list[Identity]:
    """Generate users of the last two years, with identities of the resource unless given."""
    chance, now = random.Random(count), datetime.now(UTC)  # noqa: S311 (fictional names)
    users = []
    for acs_user_id in acs_user_ids or [f"8:acs:{resource_id}_{uuid.uuid4()}" for _ in range(count)]:
        created_at = now - YEARS * chance.random()
        first, last = chance.choice(FIRST), chance.choice(LAST)
        user = Identity(
            user_id=UserId(tenant_id, str(uuid.uuid4())),
            name=f"{first} {last}",
            username=f"{first}.{last}.{uuid.uuid4().hex[:12]}@contoso.example".lower(),
            acs_user_id=acs_user_id,
            created_at=created_at,
            last_token_at=created_at + timedelta(hours=1),
            blocked=chance.random() < blocked,
            version="",
        )
        users.append(user)
    return users


def ledger_row(user: Identity) -> Row:
    return {
        "PartitionKey": (user.acs_user_id or "").lower(),
        "RowKey": "identity",
        "AcsUserId": user.acs_user_id or "",
        "TenantId": user.user_id.tenant_id,
        "ObjectId": user.user_id.object_id,
        "Reason": "",
        "Since": user.created_at,
    }


def identity_row(user: Identity, *, indexed: bool = False) -> Row:
    """Return the contract's columns, and for a user who is `indexed` the keys of their index rows."""
    keys = [str(row["RowKey"]) for row in index_rows(user)]
    return ({"IndexKeys": json.dumps(keys), "Indexed": True} if indexed else {}) | {
        "PartitionKey": user.user_id.object_id,
        "RowKey": user.user_id.tenant_id,
        "AcsUserId": user.acs_user_id or "",
        "Name": user.name,
        "Username": user.username,
        "CreatedAt": user.created_at,
        "LastTokenAt": user.last_token_at or user.created_at,
        "Blocked": user.blocked,
    }


def create_identities(settings: Mapping[str, str], count: int) -> list[str]:
    """Create identities at Communication Services; return their ids."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = settings.get("SSL_CERT_FILE", True)
        transport = RequestsTransport(session=session, session_owner=False, connection_verify=session.verify)
        client = CommunicationIdentityClient.from_connection_string(
            settings["COMMUNICATION_SERVICES_CONNECTION_STRING"], transport=transport
        )
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda _: str(client.create_user().properties["id"]), range(count)))
