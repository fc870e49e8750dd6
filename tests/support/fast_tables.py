"""Writes many rows fast: the REST API of Table Storage without an SDK, which costs milliseconds a call.

https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

import base64
import hashlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Self
from urllib.parse import quote, urlsplit

Value = object
Row = Mapping[str, Value]

BATCH = 100
THREADS = 4
SECONDS = 60
TRIES, REST_SECONDS = 6, 0.2


class FastTables:
    """Writes rows into tables of an account that is reached with its key, over plain http."""

    def __init__(self, connection_string: str) -> None:
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
        self._account, self._key = parts["AccountName"], base64.b64decode(parts["AccountKey"])
        self._endpoint = urlsplit(parts["TableEndpoint"])
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self._connections: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    def put(self, table: str, rows: Sequence[Row]) -> None:
        """Write rows, whether or not they are there; those of one partition together."""
        by_partition: dict[str, list[Row]] = {}
        for row in rows:
            by_partition.setdefault(str(row["PartitionKey"]), []).append(row)
        groups = [
            group[start : start + BATCH]
            for group in by_partition.values()
            for start in range(0, len(group), BATCH)
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(lambda group: self._put_group(table, group), groups, chunksize=1):
                pass
        # The threads are gone, and what they opened with them.
        while self._opened:
            self._opened.pop().close()

    def _put_group(self, table: str, rows: Sequence[Row]) -> None:
        if len(rows) == 1:
            self._send("PUT", _path(table, rows[0]), _json(rows[0]), "application/json", expected=204)
            return
        operations = "".join(
            "--changeset_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            f"PUT {self._endpoint.geturl()}{_path(table, row)} HTTP/1.1\r\n"
            "Content-Type: application/json\r\nAccept: application/json;odata=minimalmetadata\r\n"
            f"Prefer: return-no-content\r\nDataServiceVersion: 3.0;\r\n\r\n{_json(row)}\r\n"
            for row in rows
        )
        body = (
            "--batch_1\r\nContent-Type: multipart/mixed; boundary=changeset_1\r\n\r\n"
            f"{operations}--changeset_1--\r\n--batch_1--\r\n"
        )
        answer = self._send("POST", "/$batch", body, "multipart/mixed; boundary=batch_1", expected=202)
        if answer.count(b"HTTP/1.1 204") != len(rows):
            raise ValueError(answer[:500])

    def _send(self, method: str, path: str, body: str, content_type: str, *, expected: int) -> bytes:
        """Send it, again where the connection broke: to write a row twice does no harm."""
        for left in reversed(range(TRIES)):
            try:
                return self._send_once(method, path, body, content_type, expected=expected)
            except (OSError, http.client.HTTPException):
                self._connection().close()
                if not left:
                    raise
                time.sleep(REST_SECONDS * (TRIES - left))
        raise AssertionError

    def _send_once(self, method: str, path: str, body: str, content_type: str, *, expected: int) -> bytes:
        path = self._endpoint.path + path
        date = formatdate(usegmt=True)
        signed = hmac.new(self._key, f"{date}\n/{self._account}{path}".encode(), hashlib.sha256).digest()
        connection = self._connection()
        connection.request(
            method,
            path,
            body.encode(),
            {
                "x-ms-date": date,
                "x-ms-version": "2019-02-02",
                "Authorization": f"SharedKeyLite {self._account}:{base64.b64encode(signed).decode()}",
                "Content-Type": content_type,
                "Accept": "application/json;odata=minimalmetadata",
                "Prefer": "return-no-content",
                "DataServiceVersion": "3.0;NetFx",
            },
        )
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != expected:
            raise ValueError(f"{answer.status} {content[:500]!r}")
        return content

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._endpoint.netloc, timeout=SECONDS)
            self._opened.append(self._local.connection)
            self._connections.append(self._local.connection)
        connection: http.client.HTTPConnection = self._local.connection
        return connection


def _path(table: str, row: Row) -> str:
    partition, key = (
        quote(str(row[name]).replace("'", "''"), safe="") for name in ("PartitionKey", "RowKey")
    )
    return f"/{table}(PartitionKey='{partition}',RowKey='{key}')"


def _json(row: Row) -> str:
    members: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            members[f"{name}@odata.type"] = "Edm.DateTime"
            value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        members[name] = value
    return json.dumps(members)
