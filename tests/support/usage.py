"""A separate local Azure for the usage tests, because the table counts all requests."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableEntity, TableServiceClient

from tests.support.local_azure import LocalAzure
from tests.support.own_azure import GENEROUS, open_upstreams
from tests.support.person import Person
from tests.support.service import Service
from tests.support.storage_proxy import Call, StorageProxy
from trusted_service.usage import Counts

FLUSH_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class World:
    """A local Azure without requests of other tests, its storage behind a proxy."""

    azure: LocalAzure
    storage: StorageProxy
    tables: TableServiceClient

    @property
    def settings(self) -> dict[str, str]:
        return self.azure.env | GENEROUS | {"TABLE_STORAGE_CONNECTION_STRING": self.storage.connection_string}

    def new_person(self, at: Service, **account: object) -> Person:
        return Person(self.azure, at.url, self.azure.new_account(**account))

    def new_user(self, at: Service, **account: object) -> Person:
        """Create a person and sign them in, which counts as a sign-in."""
        return self.new_person(at, **account).signed_in()

    def put(self, day: str, hour: int, counts: Counts, *, process: str = "a") -> None:
        """Write a row as a process would."""
        row = {"PartitionKey": day, "RowKey": f"{hour:02}-{process}"}
        numbers = {"Tokens": counts.tokens, "SignIns": counts.sign_ins, "Refusals": counts.refusals}
        self.tables.create_table_if_not_exists("usage").upsert_entity(row | numbers)

    def rows(self) -> list[TableEntity]:
        """Return all rows of the table; none if it does not exist."""
        try:
            return list(self.tables.get_table_client("usage").list_entities())
        except ResourceNotFoundError:
            return []

    def by_process(self) -> Counter[Counts]:
        """Return the recorded counts of each process, summed over all hours."""
        sums: dict[str, Counts] = {}
        for row in self.rows():
            counted = Counts(tokens=row["Tokens"], sign_ins=row["SignIns"], refusals=row["Refusals"])
            process = row["RowKey"].partition("-")[2]
            sums[process] = sums.get(process, Counts()) + counted
        return Counter(sums.values())

    def total(self) -> Counts:
        """Return the recorded counts of all processes."""
        return sum(self.by_process().elements(), Counts())

    def writes(self) -> list[Call]:
        """Return the writes to the table since the proxy was cleared."""
        calls = self.storage.calls(background=True)
        return [call for call in calls if call.table == "usage" and call.method != "GET"]


@contextmanager
def open_world() -> Iterator[World]:
    with open_upstreams() as (azure, storage, tables):
        yield World(azure=azure, storage=storage, tables=tables)
