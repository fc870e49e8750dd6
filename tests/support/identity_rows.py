"""A person's row of `identities`, read and changed past the service."""

from collections.abc import Iterable
from datetime import UTC, datetime

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableEntity, TableServiceClient, UpdateMode

from tests.support.person import Person

FOREIGN_IDENTITY = "8:acs:00000000-0000-4000-8000-000000000000_11111111-1111-4111-8111-111111111111"
"""An identity of another Communication Services resource."""


def identity_key(person: Person) -> tuple[str, str]:
    """PartitionKey and RowKey as the contract has them."""
    return person.account.object_id.lower(), person.account.tenant_id.lower()


def find_identity_row(tables: TableServiceClient, person: Person) -> TableEntity | None:
    """Return the row at the contract's keys, or None."""
    try:
        return tables.get_table_client("identities").get_entity(*identity_key(person))
    except ResourceNotFoundError:
        return None


def list_identity_rows(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    """Return the rows of the person's partition: there must never be more than one."""
    partition, _ = identity_key(person)
    query = tables.get_table_client("identities").query_entities(
        "PartitionKey eq @partition", parameters={"partition": partition}
    )
    return _list(query)


def list_mentions(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    """Return every row of the table that mentions the person, under whatever keys."""
    rows = _list(tables.get_table_client("identities").list_entities())
    return [row for row in rows if person.account.object_id.lower() in f"{row}".lower()]


def _list(rows: Iterable[TableEntity]) -> list[TableEntity]:
    try:
        return list(rows)
    except ResourceNotFoundError:
        return []  # there is no table before the first identity


def get_identity(tables: TableServiceClient, person: Person) -> str:
    """Return the ACS identity that the person's row names; there must be exactly one row."""
    (row,) = list_identity_rows(tables, person)
    return str(row["AcsUserId"])


def insert_identity_row(
    tables: TableServiceClient, person: Person, *, acs_user_id: str, blocked: bool = False
) -> None:
    """Make the row, as if the person had been here before."""
    partition, row = identity_key(person)
    tables.create_table_if_not_exists("identities").create_entity(
        {
            "PartitionKey": partition,
            "RowKey": row,
            "AcsUserId": acs_user_id,
            "Name": person.account.name,
            "Username": person.account.username,
            "CreatedAt": datetime.now(UTC),
            "LastTokenAt": datetime.now(UTC),
            "Blocked": blocked,
        }
    )


def change_identity_row(tables: TableServiceClient, person: Person, **columns: object) -> None:
    """Write columns of the row, which is there."""
    partition, row = identity_key(person)
    entity = {"PartitionKey": partition, "RowKey": row, **columns}
    tables.get_table_client("identities").update_entity(entity, mode=UpdateMode.MERGE)


def delete_identity_row(tables: TableServiceClient, person: Person) -> None:
    """Delete the row."""
    tables.get_table_client("identities").delete_entity(*identity_key(person))
