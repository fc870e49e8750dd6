"""A local Azure of its own for tests about usage: the table holds the sums of everybody's doings."""

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient, TableEntity, TableServiceClient

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service
from tests.support.storage_proxy import Call, StorageProxy

GENEROUS = {"RATE_LIMIT_TOKEN": "100000 per minute", "RATE_LIMIT_SIGN_IN": "100000 per minute"}
FLUSH_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What was counted."""

    tokens: int = 0
    sign_ins: int = 0
    refusals: int = 0

    def __add__(self, other: Self) -> "Numbers":
        """Both together."""
        return Numbers(
            tokens=self.tokens + other.tokens,
            sign_ins=self.sign_ins + other.sign_ins,
            refusals=self.refusals + other.refusals,
        )


@dataclass(frozen=True, kw_only=True)
class World:
    """Nobody but the test counts here. The storage stands behind a proxy."""

    azure: LocalAzure
    storage: StorageProxy
    tables: TableServiceClient

    @property
    def settings(self) -> dict[str, str]:
        """Settings that lead here."""
        return self.azure.env | GENEROUS | {"TABLE_STORAGE_CONNECTION_STRING": self.storage.connection_string}

    @property
    def table(self) -> TableClient:
        """The table itself, past the proxy."""
        return self.tables.get_table_client("usage")

    def new_person(self, at: Service, **account: object) -> Person:
        """Make a person nobody has seen, of the allowed tenant."""
        username = f"{uuid.uuid4().hex[:12]}@contoso.example"
        members = {"name": "Test Person", "tenantId": self.azure.env["ENTRA_ALLOWED_TENANTS"]} | account
        return Person(self.azure, at.url, self.azure.put_account(username, **members))

    def new_user(self, at: Service) -> Person:
        """Make a person and sign them in: that counts."""
        person = self.new_person(at)
        assert person.sign_in().status_code == 302
        return person

    def put(self, day: str, hour: int, numbers: Numbers, *, process: str = "a") -> None:
        """Write a row as a process would."""
        self.tables.create_table_if_not_exists("usage").upsert_entity(
            {
                "PartitionKey": day,
                "RowKey": f"{hour:02}-{process}",
                "Tokens": numbers.tokens,
                "SignIns": numbers.sign_ins,
                "Refusals": numbers.refusals,
            }
        )

    def rows(self) -> list[TableEntity]:
        """All that stands in the table; nothing where nobody has written to it."""
        try:
            return list(self.table.list_entities())
        except ResourceNotFoundError:
            return []

    def by_process(self) -> Counter[Numbers]:
        """What each process has written down, all its hours together."""
        sums: dict[str, Numbers] = {}
        for row in self.rows():
            process = row["RowKey"].partition("-")[2]
            counted = Numbers(tokens=row["Tokens"], sign_ins=row["SignIns"], refusals=row["Refusals"])
            sums[process] = sums.get(process, Numbers()) + counted
        return Counter(sums.values())

    def total(self) -> Numbers:
        """What all processes have written down."""
        return sum(self.by_process().elements(), Numbers())

    def writes(self) -> list[Call]:
        """The writes to the table since the proxy was cleared."""
        return [
            call
            for call in self.storage.calls(background=True)
            if call.table == "usage" and call.method != "GET"
        ]


@contextmanager
def open_world() -> Iterator[World]:
    """Run a local Azure for the time of the block."""
    with LocalAzure() as azure:
        connection_string = azure.env["TABLE_STORAGE_CONNECTION_STRING"]
        with (
            StorageProxy(connection_string) as storage,
            TableServiceClient.from_connection_string(connection_string) as tables,
        ):
            yield World(azure=azure, storage=storage, tables=tables)
