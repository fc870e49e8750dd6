"""What the table `userindex` says of a user, read past the service."""

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient

from tests.support.together import wait_until


def list_mentions(tables: TableServiceClient, object_id: str) -> list[str]:
    """The partitions in which the user stands: lists, and what is noted for them."""
    try:
        rows = list(tables.get_table_client("userindex").list_entities())
    except ResourceNotFoundError:
        return []
    return [row["PartitionKey"] for row in rows if object_id in f"{row['RowKey']} {row.get('Lines')}"]


def is_noted(tables: TableServiceClient, object_id: str) -> bool:
    """Whether lists will show the user from the next time on."""
    return bool(list_mentions(tables, object_id))


def wait_until_forgotten(tables: TableServiceClient, object_id: str) -> None:
    """Wait until nothing leads to the user, which comes right after what makes it so."""
    wait_until(lambda: list_mentions(tables, object_id) == [])
