"""Fills the tables with users, to see and measure pages that have many: `python -m tests.seed --help`.

Rows of `identities` are written as any other program would: only the columns that the contract names.
The service finds them by itself. Identities at Communication Services are made only where asked for.
"""

import argparse
import os
import random
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from azure.communication.identity import CommunicationIdentityClient
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableServiceClient
from requests.adapters import HTTPAdapter

from tests.support.fast_tables import FastTables, Row
from tests.support.local_azure import read_env_file
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
) -> list[Identity]:
    """Write `count` new users, of whom the share `blocked` is blocked, and return them.

    With `acs`, each has a live identity at Communication Services, else an id that nobody knows there.
    """
    chance = random.Random(count)  # noqa: S311 (names of people who do not exist)
    now, tenant = datetime.now(UTC), tenant_id or settings["ENTRA_ALLOWED_TENANTS"].split(",")[0]
    acs_user_ids = _create_identities(settings, count) if acs else [_unknown_identity() for _ in range(count)]
    users = [
        _user(acs_user_id, tenant, now - YEARS * chance.random(), chance, blocked=chance.random() < blocked)
        for acs_user_id in acs_user_ids
    ]
    connection_string = settings["TABLE_STORAGE_CONNECTION_STRING"]
    with (
        TableServiceClient.from_connection_string(connection_string) as tables,
        FastTables(connection_string) as fast,
    ):
        tables.create_table_if_not_exists("identities")
        fast.put("identities", [identity_row(user) for user in users])
    return users


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


def identity_row(user: Identity) -> Row:
    """The columns that the contract lets others read."""
    return {
        "PartitionKey": user.user_id.object_id,
        "RowKey": user.user_id.tenant_id,
        "AcsUserId": user.acs_user_id or "",
        "Name": user.name,
        "Username": user.username,
        "CreatedAt": user.created_at,
        "LastTokenAt": user.last_token_at or user.created_at,
        "Blocked": user.blocked,
    }


def _create_identities(settings: Mapping[str, str], count: int) -> list[str]:
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


def _unknown_identity() -> str:
    return f"8:acs:{uuid.UUID(int=0)}_{uuid.uuid4()}"


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
