"""The tables of this service, and the ways of reading and writing a row that it needs.

https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
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
TABLE_NOT_FOUND: Final = "TableNotFound"
NOT_FOUND_CODES: Final = ("ResourceNotFound", TABLE_NOT_FOUND, "EntityNotFound")

MAX_OPERATIONS: Final = 100
"""How many operations one transaction may hold."""

Columns = Mapping[str, Any]
"""A row to write: `PartitionKey`, `RowKey` and columns."""

Row = TableEntity
"""A row as the SDK gives it: a dict of `PartitionKey`, `RowKey` and columns, with `metadata`."""

Operation = tuple[str, dict[str, Any], dict[str, Any]]
"""One step of `Table.transact`; made by `put_operation`, `merge_operation` and `delete_operation`."""


class RowExists(TrustedServiceError):
    """A row of this key is there already."""


class RowChanged(TrustedServiceError):
    """The row is gone, or somebody else wrote it since it was read."""


class _TableMissing(Exception):
    """Nothing has been written to the table yet."""


class Table:
    """One table.

    Where `may_create` is true, the first row that is written creates the table, and a missing table reads as
    an empty one. Where it is false, a missing table is a failure of the storage: it may be another account,
    or one that was restored without it. Every method raises UpstreamThrottled or UpstreamUnavailable where
    the storage refuses or does not respond.
    """

    def __init__(self, client: TableClient, *, may_create: bool) -> None:
        self._client = client
        self._may_create = may_create

    def find(self, partition: str, row: str) -> Row | None:
        """Return the row, or None if there is none."""
        try:
            with azure_call(SERVICE, expected=(ResourceNotFoundError,)):
                return self._client.get_entity(partition, row)
        except ResourceNotFoundError as error:
            self._require_row_missing(error)
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
            self._require_row_missing(error)
            raise RowChanged from error
        except ResourceModifiedError as error:
            raise RowChanged from error

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        """Apply up to MAX_OPERATIONS operations on rows of one partition, all or none; return the new
        versions.

        Raises RowChanged where a row to update or delete is gone or has another version than the one given,
        or a row to insert is already there.
        https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
        """
        if not operations:
            return []
        try:
            return self._submit(operations)
        except _TableMissing:
            self._create()
            return self._submit(operations)

    def _submit(self, operations: Sequence[Operation]) -> list[str]:
        """Raises RowChanged, or _TableMissing where the table may be created."""
        try:
            with azure_call(SERVICE, expected=(TableTransactionError,)):
                written = self._client.submit_transaction(operations)
                return [str(row.get("etag")) for row in written]  # a deleted row has none
        except TableTransactionError as error:
            match error_code(error):
                case code if code == TABLE_NOT_FOUND:
                    self._require_may_create(error)
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
                    entity, raw_response_hook=self._require_own_response, **_only_if(version)
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

        Their row keys are at least `start`, greater than `after` and, if given, less than `below`; the
        columns in `equal` have these values, which the storage checks row by row, so for rare misses only.
        """
        values: dict[str, Any] = {"partition": partition, "begin": max(start, after)}
        begin = "RowKey gt @begin" if after >= start else "RowKey ge @begin"
        conditions = ["PartitionKey eq @partition", begin]
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

    def filtered(
        self, condition: str, values: Mapping[str, Any], columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        """All rows for which the condition holds, with their keys and these columns or, for None, all
        columns.

        The storage looks at every row for that. No filter holds for a column that a row does not have, at
        Azure; at Azurite some do.
        """
        select = None if columns is None else ["PartitionKey", "RowKey", *columns]
        return self._query(condition, dict(values), None, select)

    def first(self, condition: str, values: Mapping[str, Any]) -> Row | None:
        """The first row for which the condition holds, or None."""
        return next(self._query(condition, dict(values), 1), None)

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
                self._require_row_missing(error)
                return
            if rows is None:
                return
            yield from rows

    def _writing(self, write: Callable[[], Mapping[str, Any]]) -> str:
        try:
            with azure_call(SERVICE, expected=(ResourceNotFoundError, ResourceExistsError)):
                return str(write()["etag"])
        except ResourceNotFoundError as error:
            if error_code(error) != TABLE_NOT_FOUND:
                raise UpstreamUnavailable(SERVICE, "HTTP 404 without the storage's own code") from error
            self._require_may_create(error)
            self._create()
        with azure_call(SERVICE, expected=(ResourceExistsError,)):
            return str(write()["etag"])

    def _create(self) -> None:
        try:
            with azure_call(SERVICE, expected=(ResourceExistsError,)):
                self._client.create_table()
        except ResourceExistsError:
            return  # another thread or instance was first

    def _require_row_missing(self, error: HttpResponseError) -> None:
        """Raises UpstreamUnavailable unless Table Storage itself says that a row is missing.

        A proxy or a wrong address may say 404 too.
        """
        if error_code(error) not in NOT_FOUND_CODES:
            raise UpstreamUnavailable(SERVICE, "HTTP 404 without the storage's own code") from error
        self._require_may_create(error)

    def _require_may_create(self, error: HttpResponseError) -> None:
        if error_code(error) == TABLE_NOT_FOUND and not self._may_create:
            raise UpstreamUnavailable(SERVICE, self._missing_table) from error

    def _require_own_response(self, response: PipelineResponse[Any, Any]) -> None:
        http_response = response.http_response
        if http_response.status_code != 404:
            return
        code = http_response.headers.get("x-ms-error-code")
        if code not in NOT_FOUND_CODES:
            raise UpstreamUnavailable(SERVICE, "HTTP 404 without the storage's own code")
        if code == TABLE_NOT_FOUND and not self._may_create:
            raise UpstreamUnavailable(SERVICE, self._missing_table)

    @property
    def _missing_table(self) -> str:
        return f"the table {self._client.table_name} does not exist"


def _only_if(version: str | None) -> dict[str, Any]:
    return {"etag": version, "match_condition": MatchConditions.IfNotModified} if version else {}


def put_operation(row: Columns, *, version: str | None = None) -> Operation:
    """Write the whole row: over the one of this version or, without one, over whatever is there."""
    kind = "update" if version else "upsert"
    return (kind, dict(row), {"mode": UpdateMode.REPLACE} | _only_if(version))


def merge_operation(row: Columns) -> Operation:
    """Change columns of a row that must be there."""
    return ("update", dict(row), {"mode": UpdateMode.MERGE})


def delete_operation(partition: str, row: str) -> Operation:
    """Delete a row that must be there."""
    return ("delete", {"PartitionKey": partition, "RowKey": row}, {})


class Tables:
    """The tables of one storage account. One client serves them all; making it touches no network."""

    def __init__(self, client: TableServiceClient, *, may_create: bool) -> None:
        self._client = client
        self._may_create = may_create
        self._opened: set[str] = set()

    @classmethod
    def connect(
        cls,
        settings: ServiceSettings,
        credential: TokenCredential | None,
        session: requests.Session,
        *,
        may_create: bool,
    ) -> "Tables":
        options: dict[str, Any] = {"transport": connections.new_transport(session), "retry_total": 0}
        if settings.connection_string:
            client = TableServiceClient.from_connection_string(settings.connection_string, **options)
        else:
            client = TableServiceClient(settings.endpoint or "", credential=credential, **options)
        return cls(client, may_create=may_create)

    def open(self, name: str) -> Table:
        self._opened.add(name)
        return Table(self._client.get_table_client(name), may_create=self._may_create)

    def check(self) -> None:
        """Raises UpstreamUnavailable unless the storage responds, with all tables that we may not create."""
        if self._may_create:
            self.open("identities").find("check", "check")
            return
        with azure_call(SERVICE):
            missing = sorted(self._opened - {table.name for table in self._client.list_tables()})
        if missing:
            raise UpstreamUnavailable(SERVICE, f"tables do not exist: {', '.join(missing)}")


def utc(value: datetime) -> datetime:
    """A time as the SDK hands it over (a subclass of its own), as a plain one in UTC."""
    return datetime.fromtimestamp(value.timestamp(), UTC)


def find_utc(value: datetime | str | None) -> datetime | None:
    """The same, or None where there is no time; text is what other programs may have written."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value) if value else None
        value = value.replace(tzinfo=UTC) if value and value.tzinfo is None else value
    return None if value is None else utc(value)
