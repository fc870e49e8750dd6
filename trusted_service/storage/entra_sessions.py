"""Rows of the table `sessions` that lead from an Entra ID session (its `sid`) to ours."""

import hashlib

from trusted_service.storage import partitions
from trusted_service.storage.tables import Table

SID = "sid-"


def record(table: Table, entra_session_id: str, session_key: str) -> None:
    row_key = session_key.replace("/", ".")
    table.put({"PartitionKey": _partition(entra_session_id), "RowKey": row_key})


def end(table: Table, entra_session_id: str) -> int:
    """End what was started by this Entra ID session; return how many sessions."""
    partition = _partition(entra_session_id)
    leads = [str(row["RowKey"]) for row in table.partition(partition)]
    row_keys = {lead.split(".")[1] for lead in leads}
    for user in {lead.split(".")[0] for lead in leads}:
        partitions.delete_all(table, user, lambda row_key: row_key in row_keys)
    table.delete_all(partition, leads)
    return len(leads)


def _partition(entra_session_id: str) -> str:
    return f"{SID}{hashlib.sha256(entra_session_id.encode()).hexdigest()}"
