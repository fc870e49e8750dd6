"""A local Azure where nobody has been yet, for tests that look at everybody or at what comes first."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from azure.data.tables import TableServiceClient

from tests.support.desk import ROLE, Desk
from tests.support.index_rows import wait_until_indexed
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy

GENEROUS = {
    "RATE_LIMIT_TOKEN": "100000 per minute",
    "RATE_LIMIT_SIGN_IN": "100000 per minute",
    "MISSING_IDENTITY_GRACE_SECONDS": "0",
}


@dataclass(frozen=True, kw_only=True)
class OwnAzure:
    """The local Azure, its storage behind a proxy, and one service in front."""

    azure: LocalAzure
    storage: StorageProxy
    tables: TableServiceClient
    service: Service
    settings: dict[str, str]
    """Those of the service, for another one beside it."""

    def new_person(self, username: str = "", **account: object) -> Person:
        """Make somebody nobody has seen."""
        username = username or f"{uuid.uuid4().hex[:12]}@contoso.example"
        members = {"name": "Test Person", "tenantId": self.azure.env["ENTRA_ALLOWED_TENANTS"]} | account
        return Person(self.azure, self.service.url, self.azure.put_account(username, **members))

    def new_user(self, username: str = "", **account: object) -> Person:
        """Somebody who is signed in and has an identity."""
        person = self.new_person(username, **account)
        assert person.sign_in().status_code == 302
        assert person.token().status_code == 200
        wait_until_indexed(self.tables, person.account.object_id)
        return person

    def new_desk(self) -> Desk:
        """An administrator, who has no identity, so no list shows them."""
        person = self.new_person(roles=[ROLE], name="Ada Ministrator")
        assert person.sign_in().status_code == 302
        desk = Desk(person)
        assert desk.csrf
        return desk


@contextmanager
def own_azure(
    settings: Mapping[str, str] | None = None,
    *,
    workers: int = 1,
    measured: bool = False,
    data: Path | None = None,
) -> Iterator[OwnAzure]:
    """Start all of it; `settings` change the service's, `data` holds what is there already."""
    with (
        LocalAzure(data=data) as azure,
        StorageProxy(azure.env["TABLE_STORAGE_CONNECTION_STRING"]) as storage,
    ):
        leading = {"TABLE_STORAGE_CONNECTION_STRING": storage.connection_string}
        together = azure.env | GENEROUS | leading | dict(settings or {})
        tables = TableServiceClient.from_connection_string(azure.env["TABLE_STORAGE_CONNECTION_STRING"])
        with tables, Service(together, workers=workers, measured=measured) as service:
            yield OwnAzure(azure=azure, storage=storage, tables=tables, service=service, settings=together)
