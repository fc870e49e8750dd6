"""Rows of the table `ledger`, read past the service, and identities that nothing refers to."""

import contextlib

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableEntity, TableServiceClient

from tests.support.local_azure import LocalAzure


def find_entry(tables: TableServiceClient, acs_user_id: str) -> TableEntity | None:
    """The ledger's row of an identity, or None."""
    try:
        return tables.get_table_client("ledger").get_entity(acs_user_id.lower(), "identity")
    except ResourceNotFoundError:
        return None


def list_former(tables: TableServiceClient, object_id: str, tenant_id: str) -> list[str]:
    """The former identities that are recorded for a user."""
    rows = tables.get_table_client("ledger").query_entities(
        "PartitionKey eq @user", parameters={"user": f"user-{object_id}-{tenant_id}"}
    )
    return [str(row["AcsUserId"]) for row in rows if row["Reason"]]


def find_orphans(azure: LocalAzure, tables: TableServiceClient) -> set[str]:
    """The live identities that neither a mapping row names nor the ledger knows."""
    known: set[str] = set()
    for table in ("identities", "ledger"):
        with contextlib.suppress(ResourceNotFoundError):
            rows = tables.get_table_client(table).list_entities(select=["AcsUserId"])
            known.update(str(row.get("AcsUserId")) for row in rows)
    return set(azure.list_identities()) - known
