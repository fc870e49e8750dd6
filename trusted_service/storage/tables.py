"""The tables of this service, and how it reads and writes their rows.

https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.core.pipeline import PipelineResponse
from azure.data.tables import TableClient, TableEntity, TableTransactionError, UpdateMode

from trusted_service.azure.errors import azure_call, error_code, refusal
from trusted_service.errors import TrustedServiceError, UpstreamUnavailable
from trusted_service.storage.transactions import Columns, Operation, batches, delete_operation, if_version

TABLE_NOT_FOUND: Final = "TableNotFound"
ROW_NOT_FOUND: Final = ("ResourceNotFound", "EntityNotFound")
ROW_CHANGED: Final = (*ROW_NOT_FOUND, "UpdateConditionNotSatisfied", "EntityAlreadyExists")
MAX_PAGE: Final = 1000
"""How many rows the storage returns at once."""

Row = TableEntity
"""A row as the SDK gives it: a dict of `PartitionKey`, `RowKey` and columns, with `metadata`."""


class RowExists(TrustedServiceError):
    """A row with this key exists already."""


class RowChanged(TrustedServiceError):
    """The row is gone, or has been written since it was read."""


class Table:
    """One table. Methods raise UpstreamError if the storage refuses or does not respond.

    With `may_create`, the first write creates the table, and a missing one reads as empty. Without it, a
    missing table is a failure: it may be the wrong account, or one that was restored in part.
    """

    def __init__(self, client: TableClient, *, may_create: bool) -> None:
        self._client = client
        self._may_create = may_create

    def find(self, partition: str, row: str) -> Row | None:
        with suppress(ResourceNotFoundError), self._call(ResourceNotFoundError):
            return self._client.get_entity(partition, row)
        return None

    def insert(self, row: Columns) -> str:
        """Add the row and return its version. Raises RowExists if there is one with its key."""
        try:
            return self._write(lambda: self._client.create_entity(dict(row)), ResourceExistsError)
        except ResourceExistsError as error:
            raise RowExists from error

    def put(self, row: Columns) -> None:
        """Write the whole row, whether or not there is one with its key."""
        self._write(lambda: self._client.upsert_entity(dict(row), mode=UpdateMode.REPLACE))

    def merge(self, row: Columns, *, version: str | None = None) -> str:
        """Change columns of a row and return its new version. Raises RowChanged, for a missing row too."""
        return self._update(row, UpdateMode.MERGE, version)

    def replace(self, row: Columns, *, version: str) -> None:
        """Write the whole row over the one with this version. Raises RowChanged, for a missing row too."""
        self._update(row, UpdateMode.REPLACE, version)

    def delete(self, partition: str, row: str, *, version: str | None = None) -> None:
        """Delete the row if it is there. Raises RowChanged if it does not have the given version."""
        entity = TableEntity(PartitionKey=partition, RowKey=row)
        try:
            with azure_call("Table Storage", expected=(ResourceModifiedError,) if version else ()):
                # The SDK takes every 404 for a row that is gone.
                self._client.delete_entity(entity, raw_response_hook=self._check_404, **if_version(version))
        except ResourceModifiedError as error:
            raise RowChanged from error

    def delete_all(self, partition: str, rows: Iterable[str]) -> None:
        """Delete these rows of a partition, in transactions; some may be gone."""
        for some in batches(rows):
            with suppress(RowChanged):
                if len(some) > 1:
                    self.transact([delete_operation(partition, row) for row in some])
                    continue
            for row in some:
                self.delete(partition, row)

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        """Apply up to MAX_OPERATIONS operations, all or none; return the new versions. Raises RowChanged."""
        return self._submit(operations) if operations else []

    def partition(self, partition: str) -> Iterator[Row]:
        """All rows of one partition, in the order of their keys."""
        return self.query("PartitionKey eq @partition", {"partition": partition})

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
        """Return up to `limit` rows in the order of their keys; `after` and `below` are not included."""
        conditions = ["PartitionKey eq @partition", f"RowKey {'gt' if after >= start else 'ge'} @begin"]
        values: dict[str, Any] = {"partition": partition, "begin": max(start, after)}
        if below:
            conditions.append("RowKey lt @below")
            values["below"] = below
        for number, (column, value) in enumerate((equal or {}).items()):
            conditions.append(f"{column} eq @equal{number}")
            values[f"equal{number}"] = value
        return list(itertools.islice(self.query(" and ".join(conditions), values, page=limit), limit))

    def query(
        self,
        condition: str = "",
        values: Columns | None = None,
        *,
        columns: Sequence[str] | None = None,
        page: int = MAX_PAGE,
    ) -> Iterator[Row]:
        """All rows that satisfy the condition, in the order of their keys, with these columns (None: all).

        At Azure, no filter is true for a column that a row does not have, and if selected it is None.
        """
        pages = self._client.query_entities(
            condition,
            parameters=dict(values or {}),
            results_per_page=page if page < MAX_PAGE else None,
            select=None if columns is None else ["PartitionKey", "RowKey", *columns],
        ).by_page()
        while True:
            try:
                with self._call(ResourceNotFoundError):
                    found = next(pages, None)
                    rows = None if found is None else list(found)
            except ResourceNotFoundError:
                return
            if rows is None:
                return
            yield from rows

    def purge(self, condition: str, values: Columns) -> Iterator[int]:
        """Delete the rows that satisfy the condition, and yield how many after each transaction."""
        found = self.query(condition, values, columns=())
        for partition, rows in itertools.groupby(found, lambda row: str(row["PartitionKey"])):
            for some in batches(str(row["RowKey"]) for row in rows):
                self.delete_all(partition, some)
                yield len(some)

    def now(self) -> datetime:
        """The storage's own time, to the second. Raises UpstreamUnavailable also if it does not say."""
        responses: list[PipelineResponse[Any, Any]] = []
        with suppress(ResourceNotFoundError), self._call(ResourceNotFoundError):
            self._client.get_entity("now", "now", raw_response_hook=responses.append)
        date = responses[-1].http_response.headers.get("Date", "")
        try:
            return datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        except ValueError as error:
            raise UpstreamUnavailable("Table Storage", "a response without a date") from error

    def _update(self, row: Columns, mode: UpdateMode, version: str | None) -> str:
        try:
            with self._call(ResourceNotFoundError, ResourceModifiedError):
                return str(self._client.update_entity(dict(row), mode=mode, **if_version(version))["etag"])
        except (ResourceNotFoundError, ResourceModifiedError) as error:
            raise RowChanged from error

    def _write(self, write: Callable[[], Mapping[str, Any]], *expected: type[Exception]) -> str:
        try:
            with self._call(ResourceNotFoundError, *expected):
                return str(write()["etag"])
        except ResourceNotFoundError:
            self._create()
        with azure_call("Table Storage", expected=expected):
            return str(write()["etag"])

    def _submit(self, operations: Sequence[Operation], *, create: bool = True) -> list[str]:
        try:
            with azure_call("Table Storage", expected=(TableTransactionError,)):
                written = self._client.submit_transaction(operations)
                return [str(row.get("etag")) for row in written]  # a deleted row has none
        except TableTransactionError as error:
            code = error_code(error)
            if code in ROW_CHANGED:
                raise RowChanged from error
            if code != TABLE_NOT_FOUND or not create:
                raise refusal("Table Storage", error) from error
            self._check_not_found(code, error)
        self._create()
        return self._submit(operations, create=False)

    def _create(self) -> None:
        with suppress(ResourceExistsError), azure_call("Table Storage", expected=(ResourceExistsError,)):
            self._client.create_table()  # unless another thread or instance was first

    @contextmanager
    def _call(self, *expected: type[Exception]) -> Iterator[None]:
        """One call; ResourceNotFoundError is let through only where the storage itself says it."""
        try:
            with azure_call("Table Storage", expected=expected):
                yield
        except ResourceNotFoundError as error:
            self._check_not_found(error_code(error), error)
            raise

    def _check_404(self, response: PipelineResponse[Any, Any]) -> None:
        if response.http_response.status_code == 404:
            self._check_not_found(response.http_response.headers.get("x-ms-error-code"))

    def _check_not_found(self, code: str | None, cause: Exception | None = None) -> None:
        """Raises UpstreamUnavailable unless a row, or a table that may be created, is what is missing."""
        if code == TABLE_NOT_FOUND and not self._may_create:
            name = self._client.table_name
            raise UpstreamUnavailable("Table Storage", f"the table {name} does not exist") from cause
        if code not in (*ROW_NOT_FOUND, TABLE_NOT_FOUND):
            raise UpstreamUnavailable("Table Storage", "HTTP 404 without the storage's own code") from cause


def version_of(row: Row) -> str:
    """The row's ETag."""
    return str(row.metadata.get("etag") or "")


def utc(value: datetime) -> datetime:
    """A time as the SDK returns it (a subclass of its own), as a plain one in UTC."""
    return datetime.fromtimestamp(value.timestamp(), UTC)


def find_utc(value: datetime | str | None) -> datetime | None:
    """Convert a time or ISO 8601 text to UTC; None if there is none. Raises ValueError."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value) if value else None
        value = value.replace(tzinfo=UTC) if value and value.tzinfo is None else value
    return None if value is None else utc(value)
