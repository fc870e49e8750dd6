"""The tables of this service, and the ways of reading and writing a row that it needs.

https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import requests
from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.core.pipeline import PipelineResponse
from azure.data.tables import (
    TableClient,
    TableEntity,
    TableServiceClient,
    TableTransactionError,
    UpdateMode,
)

from trusted_service import connections
from trusted_service.azure_errors import azure_call, error_code
from trusted_service.config import ServiceSettings
from trusted_service.errors import TrustedServiceError, UpstreamUnavailable

SERVICE: Final = "Table Storage"
NOT_FOUND_CODES = ("ResourceNotFound", "TableNotFound", "EntityNotFound")

MOST_TOGETHER: Final = 100

Columns = Mapping[str, Any]
"""A row to write: `PartitionKey`, `RowKey` and columns."""

Row = TableEntity
"""A row as the SDK gives it: a dict of `PartitionKey`, `RowKey` and columns, with `metadata`."""


class RowExists(TrustedServiceError):
    """A row of this key is there already."""


class RowChanged(TrustedServiceError):
    """The row is gone, or somebody else wrote it since it was read."""


class _TableMissing(Exception):
    """Nothing has been written to the table yet."""


class Table:
    """One table. Created by the first row that is written to it, so that starting needs no storage.

    Every method raises UpstreamThrottled or UpstreamUnavailable where the storage says no or nothing.
    """

    def __init__(self, client: TableClient) -> None:
        self._client = client

    def find(self, partition: str, row: str) -> Row | None:
        """Return the row, or None if there is none."""
        try:
            with azure_call(SERVICE, expected=(ResourceNotFoundError,)):
                return self._client.get_entity(partition, row)
        except ResourceNotFoundError as error:
            _require_own_answer(error)
            return None

    def insert(self, row: Columns) -> str:
        """Add the row and return its version. Raises RowExists if one of its key is there."""
        try:
            return self._writing(lambda: self._client.create_entity(dict(row)))
        except ResourceExistsError as error:
            raise RowExists from error

    def put(self, row: Columns) -> None:
        """Write the whole row, whether or not one of its key was there."""
        try:
            self._writing(lambda: self._client.upsert_entity(dict(row), mode=UpdateMode.REPLACE))
        except ResourceExistsError as error:
            raise UpstreamUnavailable(SERVICE, "HTTP 409 to a write that overwrites") from error

    def merge(self, row: Columns, *, version: str | None = None) -> str:
        """Change columns of a row that is there, and return its new version.

        Raises RowChanged where it is gone or, given `version`, no longer that one.
        """
        return self._update(row, UpdateMode.MERGE, version)

    def replace(self, row: Columns, *, version: str) -> None:
        """Write the whole row over the one of this version. Raises RowChanged where it is gone or another."""
        self._update(row, UpdateMode.REPLACE, version)

    def _update(self, row: Columns, mode: UpdateMode, version: str | None) -> str:
        try:
            with azure_call(SERVICE, expected=(ResourceNotFoundError, ResourceModifiedError)):
                return str(self._client.update_entity(dict(row), mode=mode, **_only_if(version))["etag"])
        except ResourceNotFoundError as error:
            _require_own_answer(error)
            raise RowChanged from error
        except ResourceModifiedError as error:
            raise RowChanged from error

    def write_together(self, rows: Sequence[Columns]) -> None:
        """Write whole rows of one partition, at most MOST_TOGETHER, all or nothing."""
        operations = [("upsert", dict(row), {"mode": UpdateMode.REPLACE}) for row in rows]
        try:
            self._submit(operations)
        except _TableMissing:
            self._create()
            self._submit(operations)

    def replace_together(self, first: Columns, others: Sequence[Columns], *, version: str) -> str:
        """Write whole rows of one partition, at most MOST_TOGETHER, all or nothing.

        Returns the new version of `first`. Raises RowChanged where that is gone, or not `version` any more.
        """
        replacing = {"mode": UpdateMode.REPLACE}
        operations = [("update", dict(first), replacing | _only_if(version))]
        operations += [("upsert", dict(row), replacing) for row in others]
        return self._submit(operations)[0]

    def change_together(
        self,
        inserted: Sequence[Columns],
        replaced: Sequence[tuple[Columns, str]] = (),
        deleted: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        """Change rows of one partition, at most MOST_TOGETHER, all or nothing.

        `replaced` are rows with the version that each must still have; `deleted` are partition, row and
        version. Raises RowChanged where a row is another by now, or one to insert is there.
        """
        operations: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        operations += [("create", dict(row), {}) for row in inserted]
        operations += [
            ("update", dict(row), {"mode": UpdateMode.REPLACE} | _only_if(version))
            for row, version in replaced
        ]
        operations += [
            ("delete", {"PartitionKey": partition, "RowKey": row}, _only_if(version))
            for partition, row, version in deleted
        ]
        try:
            self._submit(operations)
        except _TableMissing:
            self._create()
            self._submit(operations)

    def _submit(self, operations: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[str]:
        """Return the new versions. Raises RowChanged, or _TableMissing.

        https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
        """
        try:
            with azure_call(SERVICE, expected=(TableTransactionError,)):
                written = self._client.submit_transaction(operations)
                return [str(row.get("etag")) for row in written]  # what is deleted has none
        except TableTransactionError as error:
            match error_code(error):
                case "TableNotFound":
                    raise _TableMissing from error
                case (
                    "UpdateConditionNotSatisfied"
                    | "ResourceNotFound"
                    | "EntityNotFound"
                    | "EntityAlreadyExists"
                ):
                    raise RowChanged from error
            with azure_call(SERVICE):
                raise  # in the domain's words

    def delete(self, partition: str, row: str, *, version: str | None = None) -> None:
        """Delete the row; one that is gone already is fine. Raises RowChanged if it is not that `version`."""
        entity = TableEntity(PartitionKey=partition, RowKey=row)
        try:
            with azure_call(SERVICE, expected=(ResourceModifiedError,)):
                # The SDK takes every 404 for a row that is gone.
                self._client.delete_entity(
                    entity, raw_response_hook=_require_own_response, **_only_if(version)
                )
        except ResourceModifiedError as error:
            if version is None:
                raise UpstreamUnavailable(SERVICE, "HTTP 412 though nothing was conditional") from error
            raise RowChanged from error

    def partition(self, partition: str) -> Iterator[Row]:
        """All rows of one partition, in the order of their keys."""
        return self._query("PartitionKey eq @partition", {"partition": partition}, None)

    def partitions(self, first: str, last: str, columns: Sequence[str]) -> Iterator[Row]:
        """All rows of the partitions from `first` to `last`, both included, in the order of their keys.

        They have their keys and these columns: to read but what is wanted halves the cost of a row.
        """
        condition = "PartitionKey ge @first and PartitionKey le @last"
        select = ["PartitionKey", "RowKey", *columns]  # a column that a row does not have is None at Azure
        return self._query(condition, {"first": first, "last": last}, None, select)

    def range(
        self,
        partition: str,
        *,
        start: str = "",
        after: str = "",
        below: str = "",
        limit: int,
        equal: Columns | None = None,
    ) -> list[Row]:
        """Return up to `limit` rows of a partition, in the order of their keys.

        Their row keys are at least `start` or greater than `after` and, if given, less than `below`; the
        columns in `equal` have these values, which the storage checks row by row: only for what is rare
        to miss.
        """
        conditions = ["PartitionKey eq @partition", "RowKey ge @start" if start else "RowKey gt @after"]
        values: dict[str, Any] = {"partition": partition, "start": start} if start else {
            "partition": partition, "after": after,
        }  # fmt: skip
        if below:
            conditions.append("RowKey lt @below")
            values["below"] = below
        for number, (column, value) in enumerate((equal or {}).items()):
            conditions.append(f"{column} eq @equal{number}")
            values[f"equal{number}"] = value
        return list(itertools.islice(self._query(" and ".join(conditions), values, limit), limit))

    def all(self) -> Iterator[Row]:
        """All rows, a page in memory at a time, in the order of their keys."""
        return self._query("", {}, None)

    def changed_since(self, moment: datetime, columns: Sequence[str]) -> Iterator[Row]:
        """All rows that were written since then, with their keys, the time, and these columns.

        The storage looks at every row for that, though it sends none but these. A column that a row does
        not have is None at Azure, and missing at Azurite.
        """
        select = ["PartitionKey", "RowKey", "Timestamp", *columns]
        return self._query("Timestamp ge @moment", {"moment": moment}, None, select)

    def where(self, column: str, value: str, columns: Sequence[str]) -> Iterator[Row]:
        """All rows in which the column has this value; here too the storage looks at every row."""
        select = ["PartitionKey", "RowKey", "Timestamp", *columns]
        return self._query(f"{column} eq @value", {"value": value}, None, select)

    def matching(self, condition: str, values: Mapping[str, Any]) -> Iterator[Row]:
        """The keys of all rows for which this holds; the storage looks at every row for that.

        No filter holds for a column that a row does not have, at Azure; at Azurite some do.
        """
        return self._query(condition, dict(values), None, ["PartitionKey", "RowKey"])

    def clock(self, partition: str, row: str) -> tuple[Row | None, datetime]:
        """The row, or None, and what time it is by the storage's own clock, rounded down to the second."""
        dates: list[str] = []
        try:
            with azure_call(SERVICE, expected=(ResourceNotFoundError,)):
                found = self._client.get_entity(
                    partition, row, raw_response_hook=lambda answer: dates.extend(_dates(answer))
                )
        except ResourceNotFoundError as error:
            _require_own_answer(error)
            found = None
        return found, parsedate_to_datetime(dates[-1]) if dates else datetime.now(UTC)

    def _query(
        self,
        condition: str,
        values: dict[str, Any],
        per_page: int | None,
        select: list[str] | None = None,
    ) -> Iterator[Row]:
        # The page size may only be named where it is smaller than the storage's own, 1000.
        per_page = None if per_page is None or per_page >= 1000 else per_page
        pages = self._client.query_entities(
            condition, parameters=values, results_per_page=per_page, select=select
        ).by_page()
        while True:
            try:
                with azure_call(SERVICE, expected=(ResourceNotFoundError,)):
                    page = next(pages, None)
                    rows = None if page is None else list(page)
            except ResourceNotFoundError as error:
                _require_own_answer(error)
                return
            if rows is None:
                return
            yield from rows

    def _writing(self, write: Callable[[], Mapping[str, Any]]) -> str:
        try:
            with azure_call(SERVICE, expected=(ResourceNotFoundError, ResourceExistsError)):
                return str(write()["etag"])
        except ResourceNotFoundError:
            self._create()
        with azure_call(SERVICE, expected=(ResourceExistsError,)):
            return str(write()["etag"])

    def _create(self) -> None:
        try:
            with azure_call(SERVICE, expected=(ResourceExistsError,)):
                self._client.create_table()
        except ResourceExistsError:
            return  # another thread or instance was first


def _only_if(version: str | None) -> dict[str, Any]:
    return {"etag": version, "match_condition": MatchConditions.IfNotModified} if version else {}


def _dates(answer: PipelineResponse[Any, Any]) -> list[str]:
    date = answer.http_response.headers.get("Date")
    return [date] if date else []


def _require_own_response(response: PipelineResponse[Any, Any]) -> None:
    answer = response.http_response
    if answer.status_code == 404 and answer.headers.get("x-ms-error-code") not in NOT_FOUND_CODES:
        raise UpstreamUnavailable(SERVICE, "HTTP 404 without the storage's own code")


def _require_own_answer(error: HttpResponseError) -> None:
    # A 404 says that a row is missing only if Table Storage said it, and not a proxy or a wrong address.
    if error_code(error) not in NOT_FOUND_CODES:
        raise UpstreamUnavailable(SERVICE, "HTTP 404 without the storage's own code") from error


def open_tables(
    settings: ServiceSettings, credential: TokenCredential | None, session: requests.Session
) -> Callable[[str], Table]:
    """Return a function that opens a table by name. One client serves them all; no network is touched yet."""
    options: dict[str, Any] = {"transport": connections.new_transport(session), "retry_total": 0}
    if settings.connection_string:
        service = TableServiceClient.from_connection_string(settings.connection_string, **options)
    else:
        service = TableServiceClient(settings.endpoint or "", credential=credential, **options)
    return lambda name: Table(service.get_table_client(name))


def utc(value: datetime) -> datetime:
    """A time as the SDK hands it over (a subclass of its own), as a plain one in UTC."""
    return datetime.fromtimestamp(value.timestamp(), UTC)


def find_utc(value: datetime | str | None) -> datetime | None:
    """The same, or None where there is no time; text is what other programs may have written."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value) if value else None
        value = value.replace(tzinfo=UTC) if value and value.tzinfo is None else value
    return None if value is None else utc(value)
