"""A person's rows in the tables, read and changed without the service."""

import contextlib
import hashlib
import itertools
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableEntity, TableServiceClient, UpdateMode

from tests.support.concurrency import wait_until
from tests.support.local_azure import LocalAzure
from tests.support.person import Person

FOREIGN_IDENTITY = "8:acs:00000000-0000-4000-8000-000000000000_11111111-1111-4111-8111-111111111111"
"""An identity of another Communication Services resource."""
FORMER_RESOURCE = "8:acs:0fa5b1c7-6f6c-4c0b-9d3e-2f1d6a5e4b3c"


def list_rows(tables: TableServiceClient, table: str, column: str, value: str) -> list[TableEntity]:
    """Return the rows with this value; none if the table does not exist yet."""
    with contextlib.suppress(ResourceNotFoundError):
        client = tables.get_table_client(table)
        return list(client.query_entities(f"{column} eq @value", parameters={"value": value}))
    return []


def empty(settings: Mapping[str, str], *names: str) -> None:
    """Delete every row of these tables."""
    connection_string = settings["TABLE_STORAGE_CONNECTION_STRING"]
    with TableServiceClient.from_connection_string(connection_string) as tables:
        for name in names:
            client = tables.get_table_client(name)
            rows = itertools.groupby(client.list_entities(), lambda row: row["PartitionKey"])
            with contextlib.suppress(ResourceNotFoundError):
                for some in [list(group) for _, group in rows]:
                    for at in range(0, len(some), 100):
                        client.submit_transaction([("delete", row) for row in some[at : at + 100]])


def find_row(tables: TableServiceClient, table: str, partition: str, row: str) -> TableEntity | None:
    with contextlib.suppress(ResourceNotFoundError):
        return tables.get_table_client(table).get_entity(partition, row)
    return None


def merge_row(
    tables: TableServiceClient, table: str, key: tuple[str, str], columns: Mapping[str, object]
) -> None:
    entity = {"PartitionKey": key[0], "RowKey": key[1], **columns}
    tables.get_table_client(table).update_entity(entity, mode=UpdateMode.MERGE)


def identity_key(person: Person) -> tuple[str, str]:
    """Return PartitionKey and RowKey of the person's row in `identities`."""
    return person.account.object_id.lower(), person.account.tenant_id.lower()


def find_identity_row(tables: TableServiceClient, person: Person) -> TableEntity | None:
    return find_row(tables, "identities", *identity_key(person))


def list_identity_rows(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    """Return the rows of the person's partition: there must never be more than one."""
    return list_rows(tables, "identities", "PartitionKey", person.account.object_id.lower())


def list_mentions(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    """Return every row of `identities` that mentions the person, under any keys."""
    with contextlib.suppress(ResourceNotFoundError):
        rows = tables.get_table_client("identities").list_entities()
        return [row for row in rows if person.account.object_id.lower() in f"{row}".lower()]
    return []


def get_identity(tables: TableServiceClient, person: Person) -> str:
    """Return the ACS identity in the person's only row."""
    (row,) = list_identity_rows(tables, person)
    return str(row["AcsUserId"])


def insert_identity_row(
    tables: TableServiceClient, person: Person, *, acs_user_id: str, blocked: bool = False
) -> None:
    """Create the row of an earlier visit."""
    partition, row = identity_key(person)
    entity: dict[str, Any] = {"PartitionKey": partition, "RowKey": row, "AcsUserId": acs_user_id}
    entity |= {"Name": person.account.name, "Username": person.account.username, "Blocked": blocked}
    entity |= {"CreatedAt": datetime.now(UTC), "LastTokenAt": datetime.now(UTC)}
    tables.create_table_if_not_exists("identities").create_entity(entity)


def change_identity_row(tables: TableServiceClient, person: Person, **columns: object) -> None:
    merge_row(tables, "identities", identity_key(person), columns)


def delete_identity_row(tables: TableServiceClient, person: Person) -> None:
    tables.get_table_client("identities").delete_entity(*identity_key(person))


def list_sessions(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    return list_rows(tables, "sessions", "ObjectId", person.account.object_id)


def get_session(tables: TableServiceClient, person: Person) -> TableEntity:
    """Return the row of the person's only session."""
    (row,) = list_sessions(tables, person)
    return row


def age_session(tables: TableServiceClient, person: Person, column: str, by: timedelta) -> None:
    """Set a time of the person's only session to now minus `by`."""
    row = get_session(tables, person)
    merge_row(tables, "sessions", (row["PartitionKey"], row["RowKey"]), {column: datetime.now(UTC) - by})


def list_index_keys(tables: TableServiceClient, object_id: str) -> list[str]:
    """Return the keys of the user's rows in `userindex`, in order and without the object id."""
    rows = list_rows(tables, "userindex", "ObjectId", object_id)
    return sorted(str(row["RowKey"]).removesuffix(f" {object_id}") for row in rows)


def list_kinds(tables: TableServiceClient, object_id: str) -> set[str]:
    """Return the kinds of the user's index rows: `n`, `t`, and for a blocked user `bn` and `bt`."""
    return {key.partition("|")[0] for key in list_index_keys(tables, object_id)}


def wait_until_indexed(tables: TableServiceClient, object_id: str) -> None:
    """Wait for the background task that indexes the user's row."""
    own = ("identities", "PartitionKey", object_id)
    wait_until(lambda: any(row.get("Indexed") for row in list_rows(tables, *own)))


def wait_until_forgotten(tables: TableServiceClient, object_id: str) -> None:
    wait_until(lambda: list_index_keys(tables, object_id) == [])


def find_entry(tables: TableServiceClient, acs_user_id: str) -> TableEntity | None:
    return find_row(tables, "ledger", acs_user_id.lower(), "identity")


def list_former(tables: TableServiceClient, object_id: str, tenant_id: str) -> list[str]:
    """Return a user's former identities in the ledger."""
    rows = list_rows(tables, "ledger", "PartitionKey", f"user-{object_id}-{tenant_id}")
    return [str(row["AcsUserId"]) for row in rows if row["Reason"]]


def find_orphans(azure: LocalAzure, tables: TableServiceClient) -> set[str]:
    """Return the live identities that are neither in `identities` nor in the ledger."""
    known: set[str] = set()
    for table in ("identities", "ledger"):
        with contextlib.suppress(ResourceNotFoundError):
            rows = tables.get_table_client(table).list_entities(select=["AcsUserId"])
            known.update(str(row.get("AcsUserId")) for row in rows)
    return set(azure.list_identities()) - known


def allow_former_resource(tables: TableServiceClient) -> None:
    """Add FORMER_RESOURCE to the existing pin as the resource from which users are moved."""
    merge_row(tables, "ledger", ("resource", "pin"), {"Former": FORMER_RESOURCE})


def give_former_identity(tables: TableServiceClient, person: Person) -> str:
    """Put an identity of FORMER_RESOURCE into the person's row; return it."""
    identity = f"{FORMER_RESOURCE}_{uuid.uuid4()}"
    change_identity_row(tables, person, AcsUserId=identity, Indexed=False)
    return identity


def plant_sessions(
    tables: TableServiceClient, person: Person, count: int, *, sid: str = "", **columns: object
) -> None:
    """Write copies of a session of the person, changed in these columns, which no cookie opens.

    With `sid`, write also the rows that lead from an Entra ID session to them.
    """
    session, client = list_sessions(tables, person)[0], tables.get_table_client("sessions")
    copies = [{**session, **columns, "RowKey": f"{uuid.uuid4().hex}{uuid.uuid4().hex}"} for _ in range(count)]
    lead = f"sid-{hashlib.sha256(sid.encode()).hexdigest()}"
    leads = [{"PartitionKey": lead, "RowKey": f"{row['PartitionKey']}.{row['RowKey']}"} for row in copies]
    for rows in (copies, leads if sid else []):
        for at in range(0, len(rows), 100):
            client.submit_transaction([("create", row) for row in rows[at : at + 100]])
