"""Writes a data folder with many users for the local Azure, without Azurite, which would take minutes.

Azurite keeps its tables in one JSON file of LokiJS, which V8 reads as one string of at most 512 MB.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support.seed import identity_row, ledger_row
from trusted_service.models import Identity
from trusted_service.storage.index_rows import index_rows

ACCOUNT = "devstoreaccount1"
Row = Mapping[str, object]


def plant_storage(folder: Path, users: Sequence[Identity], *, whole: bool) -> None:
    """Write the rows that the service would have written.

    Unless `whole`, the ledger is empty, and the index lists users by age only.
    """
    index = (row for user in users for row in index_rows(user) if whole or _is_listed(row))
    rows = {
        "identities": (identity_row(user, indexed=whole) for user in users),
        "userindex": (*index, {"PartitionKey": "index", "RowKey": "complete", "Version": 2}),
        "ledger": (ledger_row(user) for user in users if whole),
    }
    tables: list[dict[str, object]] = [{"account": ACCOUNT, "table": name} for name in rows]
    collections = [
        _collection("$TABLES_COLLECTION$", tables, ("account", "table")),
        _collection("$SERVICES_COLLECTION$", [], ()),
    ]
    collections += [
        _collection(f"{ACCOUNT}${name}", map(_entity, table), ("PartitionKey", "RowKey"))
        for name, table in rows.items()
    ]
    path = folder / "azurite" / "__azurite_db_table__.json"
    path.parent.mkdir(parents=True)
    database = {
        "filename": str(path),
        "collections": collections,
        "databaseVersion": 1.5,
        "engineVersion": 1.5,
    }
    path.write_text(json.dumps(database, separators=(",", ":")), encoding="utf-8")


def _is_listed(row: Row) -> bool:
    return str(row["RowKey"]).startswith(("n|", "bn|"))


def _collection(
    name: str, documents: Iterable[dict[str, object]], indices: Sequence[str]
) -> dict[str, object]:
    now = int(time.time() * 1000)
    data = [
        document | {"meta": {"revision": 0, "created": now, "version": 0}, "$loki": number}
        for number, document in enumerate(documents, 1)
    ]
    return {
        "name": name,
        "data": data,
        "idIndex": None,
        "binaryIndices": {
            index: {
                "name": index,
                "dirty": False,
                "values": sorted(range(len(data)), key=lambda place: str(data[place][index])),
            }
            for index in indices
        },
        "uniqueNames": [],
        "transforms": {},
        "objType": name,
        "adaptiveBinaryIndices": True,
        "disableChangesApi": True,
        "maxId": len(data),
        "DynamicViews": [],
    }


def _entity(row: Row) -> dict[str, object]:
    written = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
    properties: dict[str, object] = {}
    for name, value in {**row, "Timestamp": written}.items():
        if isinstance(value, datetime):
            value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            properties[f"{name}@odata.type"] = "Edm.DateTime"
        properties[name] = value
    properties["Timestamp@odata.type"] = "Edm.DateTime"
    return {
        "PartitionKey": row["PartitionKey"],
        "RowKey": row["RowKey"],
        "properties": properties,
        "lastModifiedTime": written,
        "eTag": f"W/\"datetime'{written.replace(':', '%3A')}'\"",
    }
