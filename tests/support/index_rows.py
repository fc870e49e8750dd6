"""The rows of the table `userindex` that lead to a user, read past the service."""

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient

from tests.support.together import wait_until


def list_index_keys(tables: TableServiceClient, object_id: str) -> list[str]:
    """The row keys of the user's rows, without the object id, in their order."""
    try:
        rows = list(tables.get_table_client("userindex").list_entities(select=["PartitionKey", "RowKey"]))
    except ResourceNotFoundError:
        return []
    keys = (str(row["RowKey"]) for row in rows)
    return sorted(key.removesuffix(f" {object_id}") for key in keys if key.endswith(f" {object_id}"))


def is_indexed(tables: TableServiceClient, object_id: str) -> bool:
    """Whether the mapping row says that the index shows it."""
    rows = tables.get_table_client("identities").query_entities(
        "PartitionKey eq @object_id", parameters={"object_id": object_id}
    )
    return any(row.get("Indexed") for row in rows)


def wait_until_indexed(tables: TableServiceClient, object_id: str) -> None:
    """Wait for the rows of a new user, which are written after the response to their first token."""
    wait_until(lambda: is_indexed(tables, object_id))


def list_kinds(tables: TableServiceClient, object_id: str) -> set[str]:
    """Which lists the user is in: `n`, `t`, and for a blocked user `bn` and `bt`."""
    return {key.partition("|")[0] for key in list_index_keys(tables, object_id)}


def wait_until_forgotten(tables: TableServiceClient, object_id: str) -> None:
    """Wait until no row leads to the user."""
    wait_until(lambda: list_index_keys(tables, object_id) == [])
