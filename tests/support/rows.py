"""A person's rows in the tables, past the service."""

from datetime import UTC, datetime, timedelta

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableEntity, TableServiceClient, UpdateMode

from tests.support.person import Person


def list_rows(tables: TableServiceClient, table: str, column: str, value: str) -> list[TableEntity]:
    """Return the rows where `column` is `value`; none where nobody has written to the table yet."""
    found = tables.get_table_client(table).query_entities(f"{column} eq @value", parameters={"value": value})
    try:
        return list(found)
    except ResourceNotFoundError:
        return []


def list_identities(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    """Return the person's rows in `identities`: there must never be more than one."""
    return list_rows(tables, "identities", "PartitionKey", person.account.object_id)


def list_sessions(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    """Return the rows of the person's sessions."""
    return list_rows(tables, "sessions", "ObjectId", person.account.object_id)


def get_session(tables: TableServiceClient, person: Person) -> TableEntity:
    """Return the row of the person's only session."""
    (row,) = list_sessions(tables, person)
    return row


def age_session(tables: TableServiceClient, person: Person, column: str, by: timedelta) -> None:
    """Set a time of the person's only session to that long ago."""
    row = get_session(tables, person)
    changes = {
        "PartitionKey": row["PartitionKey"],
        "RowKey": row["RowKey"],
        column: datetime.now(UTC) - by,
    }
    tables.get_table_client("sessions").update_entity(changes, mode=UpdateMode.MERGE)
