"""Telemetry as operators query it: the tables that Application Insights makes of envelopes, and KQL on them.

https://learn.microsoft.com/azure/azure-monitor/reference/tables-index
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import duckdb_kql

Envelope = Mapping[str, Any]

COMMON = "timestamp TIMESTAMP, operation_Id TEXT, cloud_RoleName TEXT, cloud_RoleInstance TEXT, itemCount BIGINT"
CALL = "name TEXT, success TEXT, resultCode TEXT, duration DOUBLE"
TABLES = {
    "requests": f"{CALL}, operation_Name TEXT, url TEXT",
    "dependencies": f"{CALL}, target TEXT, type TEXT, data TEXT",
    "traces": "message TEXT, severityLevel BIGINT",
    "exceptions": "type TEXT, outerMessage TEXT",
    "customMetrics": (
        "name TEXT, valueSum DOUBLE, valueCount BIGINT, valueMin DOUBLE, valueMax DOUBLE, value DOUBLE"
    ),
}
KINDS = {
    "RequestData": "requests",
    "RemoteDependencyData": "dependencies",
    "MessageData": "traces",
    "ExceptionData": "exceptions",
    "MetricData": "customMetrics",
}


class Tables:
    """The tables of these envelopes."""

    def __init__(self, envelopes: Iterable[Envelope]) -> None:
        self._database = duckdb_kql.connect()
        for name, columns in TABLES.items():
            self._database.execute(f"CREATE TABLE {name} ({COMMON}, {columns}, customDimensions JSON)")
        for envelope in envelopes:
            table, row = KINDS[envelope["data"]["baseType"]], {**_common(envelope), **_own(envelope)}
            places = ", ".join("?" * len(row))
            self._database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", [*row.values()])  # noqa: S608

    def query(self, kql: str) -> list[dict[str, Any]]:
        """Run a query. Raises KqlError for what is no KQL, or uses a column that does not exist."""
        found = duckdb_kql.query(self._database, kql)
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def _common(envelope: Envelope) -> dict[str, Any]:
    tags = envelope["tags"]
    return {
        "timestamp": datetime.fromisoformat(envelope["time"]).replace(tzinfo=None),
        "operation_Id": tags.get("ai.operation.id"),
        "cloud_RoleName": tags.get("ai.cloud.role"),
        "cloud_RoleInstance": tags.get("ai.cloud.roleInstance"),
        # Ingestion turns the percentage that was kept into the number that an item stands for.
        "itemCount": round(100 / (envelope.get("sampleRate") or 100)),
        "customDimensions": json.dumps(envelope["data"]["baseData"].get("properties") or {}),
    }


def _own(envelope: Envelope) -> dict[str, Any]:
    data = envelope["data"]["baseData"]
    match envelope["data"]["baseType"]:
        case "RequestData":
            own = {"operation_Name": envelope["tags"].get("ai.operation.name"), "url": data.get("url")}
            return {**_call(data, data["responseCode"]), **own}
        case "RemoteDependencyData":
            own = {name: data.get(name) for name in ("target", "type", "data")}
            return {**_call(data, data["resultCode"]), **own}
        case "MessageData":
            return {"message": data["message"], "severityLevel": data["severityLevel"]}
        case "ExceptionData":
            return {"type": data["exceptions"][0]["typeName"], "outerMessage": data["exceptions"][0]["message"]}
    (point,) = data["metrics"]
    count = point.get("count") or 1
    return {
        "name": point["name"],
        "valueSum": point["value"],
        "valueCount": count,
        "value": point["value"] / count,
        "valueMin": point.get("min", point["value"]),
        "valueMax": point.get("max", point["value"]),
    }


def _call(data: Mapping[str, Any], code: str) -> dict[str, Any]:
    days, hours, minutes, seconds = map(float, re.split(r"[.:]", data["duration"], maxsplit=3))
    milliseconds = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
    return {"name": data["name"], "success": str(data["success"]), "resultCode": code, "duration": milliseconds}
