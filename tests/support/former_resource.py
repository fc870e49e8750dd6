"""A former Communication Services resource, and a user who still has an identity in it."""

import uuid

from azure.data.tables import TableServiceClient, UpdateMode

from tests.support.identity_rows import change_identity_row
from tests.support.person import Person

FORMER_RESOURCE = "8:acs:0fa5b1c7-6f6c-4c0b-9d3e-2f1d6a5e4b3c"


def allow_former_resource(tables: TableServiceClient) -> None:
    """Let the pin say that users are moved away from that resource; there must be a pin."""
    pin = {"PartitionKey": "resource", "RowKey": "pin", "Former": FORMER_RESOURCE}
    tables.get_table_client("ledger").update_entity(pin, mode=UpdateMode.MERGE)


def give_former_identity(tables: TableServiceClient, person: Person) -> str:
    """Let the person's row name an identity of that resource; return it."""
    identity = f"{FORMER_RESOURCE}_{uuid.uuid4()}"
    change_identity_row(tables, person, AcsUserId=identity, Indexed=False)
    return identity
