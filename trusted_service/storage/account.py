"""The storage account: opens and checks its tables."""

import uuid
from typing import Any

import requests
from azure.core.credentials import TokenCredential
from azure.data.tables import TableServiceClient

from trusted_service.azure import transport
from trusted_service.azure.errors import azure_call
from trusted_service.errors import UpstreamUnavailable
from trusted_service.settings import Settings
from trusted_service.storage.tables import Table


class StorageAccount:
    """One client for all tables. Making it touches no network."""

    def __init__(
        self, settings: Settings, credential: TokenCredential | None, session: requests.Session
    ) -> None:
        options: dict[str, Any] = {"transport": transport.new_transport(session), "retry_total": 0}
        if connection_string := settings.table_storage_connection_string:
            self._client = TableServiceClient.from_connection_string(connection_string, **options)
        else:
            endpoint = settings.table_storage_endpoint or ""
            self._client = TableServiceClient(endpoint, credential=credential, **options)
        self._may_create = settings.table_storage_create_tables
        self.tables: set[str] = set()
        """The names of those that were opened: all that the service has, once it is built."""

    def open(self, name: str) -> Table:
        self.tables.add(name)
        return Table(self._client.get_table_client(name), may_create=self._may_create)

    def check(self) -> None:
        """Raises UpstreamUnavailable unless the storage responds, with every table that must exist."""
        if self._may_create:
            self.open("identities").find("check", "check")
            return
        with azure_call("Table Storage"):
            missing = sorted(self.tables - {table.name for table in self._client.list_tables()})
        if missing:
            raise UpstreamUnavailable("Table Storage", f"tables do not exist: {', '.join(missing)}")

    def check_write(self) -> None:
        """The same, and write a row that nothing reads, and delete it."""
        self.check()
        table, row = self.open("jobs"), str(uuid.uuid4())
        table.put({"PartitionKey": "check", "RowKey": row})
        table.delete("check", row)
