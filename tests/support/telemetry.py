"""Telemetry as operators query it: the tables that Application Insights makes of envelopes, and KQL on them.

https://learn.microsoft.com/azure/azure-monitor/reference/tables-index
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb_kql
import requests

from tests.support.concurrency import wait_until
from tests.support.own_azure import World

INFRA = Path(__file__).parents[2] / "infra"
OFTEN = {
    "OTEL_METRIC_EXPORT_INTERVAL": "300",
    "OTEL_BSP_SCHEDULE_DELAY": "300",
    "OTEL_BLRP_SCHEDULE_DELAY": "300",
}
"""Settings of the OpenTelemetry SDK: how many milliseconds it waits."""

Envelope = Mapping[str, Any]

COMMON = (
    "timestamp TIMESTAMP, operation_Id TEXT, cloud_RoleName TEXT, cloud_RoleInstance TEXT, itemCount INTEGER"
)
CALL = "name TEXT, success TEXT, resultCode TEXT, duration DOUBLE"
TABLES = {
    "requests": f"{CALL}, operation_Name TEXT, url TEXT",
    "dependencies": f"{CALL}, target TEXT, type TEXT, data TEXT",
    "traces": "message TEXT, severityLevel INTEGER",
    "exceptions": "type TEXT, outerMessage TEXT",
    "customMetrics": (
        "name TEXT, valueSum DOUBLE, valueCount INTEGER, valueMin DOUBLE, valueMax DOUBLE, value DOUBLE"
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
            names, places = ", ".join(row), ", ".join("?" * len(row))
            # S608: the names are ours.
            insert = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608
            self._database.execute(insert, [*row.values()])

    def query(self, kql: str) -> list[dict[str, Any]]:
        """Run a query. Raises KqlError for what is no KQL, or uses a column that does not exist."""
        found = duckdb_kql.query(self._database, kql)
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    def find_types(self, kql: str) -> dict[str, str]:
        """Return the type of each column of a query's result, of which DuckDB has the same as Kusto."""
        found = duckdb_kql.query(self._database, kql)
        return dict(zip(found.columns, map(str, found.types), strict=True))


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
            return {
                "type": data["exceptions"][0]["typeName"],
                "outerMessage": data["exceptions"][0]["message"],
            }
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
    return {
        "name": data["name"],
        "success": str(data["success"]),
        "resultCode": code,
        "duration": milliseconds,
    }


@dataclass(frozen=True)
class Telemetry:
    """The upstreams and a service with telemetry."""

    world: World

    def settle(self) -> Sequence[Envelope]:
        """Return the envelopes, once those of everything up to now have arrived."""
        headers = {"Authorization": "Bearer x"}  # which is logged
        response = requests.get(f"{self.world.service.url}/api/me", headers=headers, timeout=30)
        marker = response.headers["X-Request-ID"]
        wait_until(lambda: _has_arrived(self.world.azure.list_envelopes(), marker))
        return self.world.azure.list_envelopes()


def _has_arrived(envelopes: Iterable[Envelope], marker: str) -> bool:
    """Tell whether a refused request has arrived as line, span and metric, with all before it."""
    lines, spans, counted = set(), {}, 0
    for envelope in envelopes:
        data = envelope["data"]["baseData"]
        match envelope["data"]["baseType"]:
            case "MessageData":
                lines.add(data["properties"].get("request_id"))
            case "RequestData":
                spans[data["properties"]["request_id"]] = data["responseCode"]
            case "MetricData" if data["metrics"][0]["name"] == "trusted_service.refusals":
                counted += data["metrics"][0]["value"]
    refused = sum(status in ("401", "403", "429") for status in spans.values())
    return marker in lines and marker in spans and counted == refused


def find_firing(envelopes: Iterable[Envelope]) -> set[str]:
    """Return the names of the alerts whose queries return a row for these envelopes."""
    tables = Tables(envelopes)
    return {alert["name"] for alert in read_alerts() if tables.query("\n".join(alert["query"]))}


def read_alerts() -> list[dict[str, Any]]:
    return list(json.loads((INFRA / "alerts.json").read_text(encoding="utf-8")))
