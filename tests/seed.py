"""Fills the tables with users, to see and measure pages that have many: `python -m tests.seed --help`.

Their rows are written as the service would leave them, with their index rows and their identities in the
ledger, or as another program would: only the columns of `identities` that the contract names. Identities at
Communication Services are made only where asked for.
"""

import argparse
import json
import os
import random
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from azure.communication.identity import CommunicationIdentityClient
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableServiceClient
from requests.adapters import HTTPAdapter

from tests.support.fast_tables import FastTables, Row
from tests.support.local_azure import read_env_file
from trusted_service.index_rows import index_rows
from trusted_service.models import Identity, UserId

THREADS = 4
YEARS = timedelta(days=730)
FIRST = (
    "Ada",
    "Bjørn",
    "Chloé",
    "Dmitri",
    "Élodie",
    "Fatima",
    "Grace",
    "Håkon",
    "Inês",
    "José",
    "Kenji",
    "Łucja",
)
LAST = (
    "Åberg",
    "Brontë",
    "Çelik",
    "Dvořák",
    "Ekström",
    "Fischer",
    "García",
    "Hopper",
    "Ivanov",
    "Jansen",
    "Müller",
)


def seed_users(
    settings: Mapping[str, str],
    count: int,
    *,
    acs: bool = False,
    tenant_id: str | None = None,
    blocked: float = 0.0,
    indexed: bool = True,
    name: str = "",
) -> list[Identity]:
    """Write `count` new users, of whom the share `blocked` is blocked, and return them.

    With `acs`, each has a live identity at Communication Services, else an id that it does not know. Without
    `indexed`, only the rows of `identities` are written. `name` is everybody's, where it is given.
    """
    tenant = tenant_id or settings["ENTRA_ALLOWED_TENANTS"].split(",")[0]
    acs_user_ids = create_identities(settings, count) if acs else None
    resource_id = "" if acs else find_resource_id(settings)
    users = make_users(count, tenant, resource_id, acs_user_ids, blocked=blocked)
    if name:
        users = [replace(user, name=name) for user in users]
    connection_string = settings["TABLE_STORAGE_CONNECTION_STRING"]
    with (
        TableServiceClient.from_connection_string(connection_string) as tables,
        FastTables(connection_string) as fast,
    ):
        for table in ("identities", "userindex", "ledger"):
            tables.create_table_if_not_exists(table)
        if indexed:
            _index(fast, users)
        fast.put("identities", [identity_row(user, indexed=indexed) for user in users])
    return users


def make_users(
    count: int,
    tenant_id: str,
    resource_id: str,
    acs_user_ids: list[str] | None = None,
    *,
    blocked: float = 0.0,
) -> list[Identity]:
    """Make up so many users of the last two years, with identities of the resource unless some are given."""
    chance, now = random.Random(count), datetime.now(UTC)  # noqa: S311 (names of people who do not exist)
    ids = acs_user_ids or [f"8:acs:{resource_id}_{uuid.uuid4()}" for _ in range(count)]
    return [
        _user(
            acs_user_id, tenant_id, now - YEARS * chance.random(), chance, blocked=chance.random() < blocked
        )
        for acs_user_id in ids
    ]


def find_resource_id(settings: Mapping[str, str]) -> str:
    """The GUID of the Communication Services resource to which the settings lead."""
    document = requests.get(settings["LOCAL_AZURE_CONTROL_URL"] + "/acs", timeout=30).json()
    return str(document["endpoints"][0]["resourceId"])


def _index(fast: FastTables, users: list[Identity]) -> None:
    for start in range(0, len(users), 10_000):
        some = users[start : start + 10_000]
        fast.put("userindex", [row for user in some for row in index_rows(user)])
        fast.put("ledger", [ledger_row(user) for user in some if user.acs_user_id])


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


def _user(
    acs_user_id: str, tenant_id: str, created_at: datetime, chance: random.Random, *, blocked: bool
) -> Identity:
    first, last = chance.choice(FIRST), chance.choice(LAST)
    return Identity(
        user_id=UserId(tenant_id, str(uuid.uuid4())),
        name=f"{first} {last}",
        username=f"{first}.{last}.{chance.randrange(10**6)}@contoso.example".lower(),
        acs_user_id=acs_user_id,
        created_at=created_at,
        last_token_at=created_at + timedelta(hours=1),
        blocked=blocked,
        version="",
    )


def identity_row(user: Identity, *, indexed: bool = False) -> Row:
    """The columns that the contract lets others read and, where the user is `indexed`, what says so."""
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
    """Create so many identities at Communication Services; return their ids."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = settings.get("SSL_CERT_FILE", True)
        session.mount("https://", HTTPAdapter(pool_maxsize=THREADS))
        client = CommunicationIdentityClient.from_connection_string(
            settings["COMMUNICATION_SERVICES_CONNECTION_STRING"],
            transport=RequestsTransport(
                session=session, session_owner=False, connection_verify=session.verify
            ),
        )
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda _: str(client.create_user().properties["id"]), range(count)))


def main() -> None:
    """Read the arguments, seed, say how long it took."""
    parser = argparse.ArgumentParser(prog="python -m tests.seed", description="Fill the tables with users.")
    parser.add_argument(
        "--env-file", type=Path, help="written by `python -m local_azure`; else the environment"
    )
    parser.add_argument("--users", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--blocked", type=float, default=0.05, help="share of blocked users (default: 0.05)")
    parser.add_argument("--tenant", help="their tenant (default: the first that is allowed)")
    parser.add_argument("--acs", action="store_true", help="make live identities too")
    arguments = parser.parse_args()
    settings = read_env_file(arguments.env_file) if arguments.env_file else dict(os.environ)
    begin = time.monotonic()
    seed_users(
        settings, arguments.users, acs=arguments.acs, tenant_id=arguments.tenant, blocked=arguments.blocked
    )
    print(f"{arguments.users} users in {time.monotonic() - begin:.0f} s")  # noqa: T201 (it is a command)


if __name__ == "__main__":
    main()
