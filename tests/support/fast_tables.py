"""Writes many rows by the REST API of Table Storage, because the SDK takes milliseconds per call.

https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from email.utils import formatdate
from functools import partial
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

Row = Mapping[str, object]

BATCH = 100
THREADS = 4
SECONDS = 60


def put_rows(connection_string: str, table: str, rows: Sequence[Row]) -> None:
    """Insert or replace rows, in batches per partition."""
    partitions: dict[str, list[Row]] = {}
    for row in rows:
        partitions.setdefault(str(row["PartitionKey"]), []).append(row)
    batches = [group[at : at + BATCH] for group in partitions.values() for at in range(0, len(group), BATCH)]
    put = partial(_put_batches, connection_string, table)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(put, [batches[n::THREADS] for n in range(THREADS)]))


def _put_batches(connection_string: str, table: str, batches: Sequence[Sequence[Row]]) -> None:
    parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
    account, key = parts["AccountName"], base64.b64decode(parts["AccountKey"])
    endpoint = urlsplit(parts["TableEndpoint"])
    with closing(HTTPConnection(endpoint.netloc, timeout=SECONDS)) as connection:
        for rows in batches:
            method, path, content_type = "POST", "/$batch", "multipart/mixed; boundary=batch_1"
            if len(rows) == 1:
                method, path, content_type = "PUT", _path(table, rows[0]), "application/json"
            body = _json(rows[0]) if len(rows) == 1 else _batch(endpoint.geturl(), table, rows)
            date, path = formatdate(usegmt=True), endpoint.path + path
            signed = hmac.digest(key, f"{date}\n/{account}{path}".encode(), "sha256")
            headers = {
                "x-ms-date": date,
                "x-ms-version": "2019-02-02",
                "Authorization": f"SharedKeyLite {account}:{base64.b64encode(signed).decode()}",
                "Content-Type": content_type,
                "Accept": "application/json;odata=minimalmetadata",
                "Prefer": "return-no-content",
                "DataServiceVersion": "3.0;NetFx",
            }
            connection.request(method, path, body.encode(), headers)
            response = connection.getresponse()
            content = response.read()
            written = content.count(b"HTTP/1.1 204") if response.status == 202 else response.status == 204
            if written != len(rows):
                raise ValueError(f"{response.status} {content[:500]!r}")


def _batch(endpoint: str, table: str, rows: Sequence[Row]) -> str:
    operations = "".join(
        "--changeset_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"PUT {endpoint}{_path(table, row)} HTTP/1.1\r\n"
        "Content-Type: application/json\r\nAccept: application/json;odata=minimalmetadata\r\n"
        f"Prefer: return-no-content\r\nDataServiceVersion: 3.0;\r\n\r\n{_json(row)}\r\n"
        for row in rows
    )
    head = "--batch_1\r\nContent-Type: multipart/mixed; boundary=changeset_1\r\n\r\n"
    return f"{head}{operations}--changeset_1--\r\n--batch_1--\r\n"


def _path(table: str, row: Row) -> str:
    names = ("PartitionKey", "RowKey")
    partition, key = (quote(str(row[name]).replace("'", "''"), safe="") for name in names)
    return f"/{table}(PartitionKey='{partition}',RowKey='{key}')"


def _json(row: Row) -> str:
    members: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            members[f"{name}@odata.type"] = "Edm.DateTime"
            value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        members[name] = value
    return json.dumps(members)
