"""The upstreams and the service of a test in one object, shared or started for some tests alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import requests
from azure.data.tables import TableEntity, TableServiceClient

from tests.support import rows
from tests.support.admin_client import ROLE, Admin, bearer, post_token
from tests.support.canary import taken_turns
from tests.support.commands import repair
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy

GENEROUS = {
    "RATE_LIMIT_TOKEN": "100000 per minute",
    "RATE_LIMIT_SIGN_IN": "100000 per minute",
    "RATE_LIMIT_ACCOUNT": "100000 per minute",
    "MISSING_IDENTITY_GRACE_SECONDS": "0",
}


@dataclass(frozen=True, kw_only=True)
class World:
    """A local Azure, its storage behind a proxy, the tables without that, and one service."""

    azure: LocalAzure
    storage: StorageProxy
    tables: TableServiceClient
    service: Service
    settings: dict[str, str]
    """The service's settings, for another instance."""

    @cached_property
    def admin(self) -> Admin:
        return self.new_admin()

    def new_person(self, username: str = "", **account: object) -> Person:
        return Person(self.azure, self.service.url, self.azure.new_account(username, **account))

    def new_user(self, username: str = "", **account: object) -> Person:
        """Create a user with index rows and a session that has cached their identity."""
        person = self.new_person(username, **account).signed_in()
        assert person.token().status_code == 200
        rows.wait_until_indexed(self.tables, person.account.object_id)
        return person

    def new_admin(self) -> Admin:
        """Create an administrator, who has no identity, so no list shows them."""
        admin = Admin(self.new_person(roles=[ROLE], name="Ada Ministrator").signed_in())
        assert admin.csrf
        return admin

    def rename(self, person: Person, name: str) -> None:
        """Change the name at Entra ID."""
        now = person.account
        self.azure.put_account(now.username, name=name, tenantId=now.tenant_id, objectId=now.object_id)

    def new_instance(self, settings: Mapping[str, str], *, measured: bool = False) -> Service:
        """Return another instance, not started, whose address differs in the port only."""
        own = self.settings | {"PUBLIC_URL": self.service.url} | dict(settings)
        return Service(own, measured=measured)

    def token_by_bearer(self, person: Person, at: Service | None = None) -> requests.Response:
        """Request a token without a session, as a phone app does."""
        return post_token(person.at((at or self.service).url), bearer(self.azure, person))

    def identity_of(self, person: Person) -> str:
        return rows.get_identity(self.tables, person)

    def find_row(self, person: Person) -> TableEntity | None:
        return rows.find_identity_row(self.tables, person)

    def list_rows(self, person: Person) -> list[TableEntity]:
        return rows.list_identity_rows(self.tables, person)

    def change_row(self, person: Person, **columns: object) -> None:
        rows.change_identity_row(self.tables, person, **columns)

    def list_sessions(self, person: Person) -> list[TableEntity]:
        return rows.list_sessions(self.tables, person)

    def run_before(
        self, method: str, table: str, about: str, action: Callable[[], object], *, also: str = ""
    ) -> None:
        """Run the action right before the next storage call that matches."""
        fault = Fault(
            kind="signal", method=method, table=table, about=about, also=also, times=1, action=action
        )
        self.storage.plant(fault)

    def lose_identity(self, acs_user_id: str, *, times: int | None = 1) -> None:
        """Make Communication Services report this identity as not found."""
        refusal = {"status": 404, "code": "IdentityNotFound"}
        self.azure.plant_fault("acs", "issue", "status", times=times, about=acs_user_id, **refusal)

    def repair(self, person: Person, *, dry_run: bool = False) -> list[str]:
        """Run `users repair`; return the kinds of its findings about the person."""
        findings = repair(self.service.env, dry_run=dry_run)
        return [finding["kind"] for finding in findings if finding["user"] == person.key]

    def clear_faults(self) -> None:
        self.azure.clear_faults()
        self.storage.clear()


OwnAzure = World  # one that is not shared


@contextmanager
def own_azure(
    settings: Mapping[str, str] | None = None,
    *,
    workers: int = 1,
    measured: bool = False,
    data: Path | None = None,
) -> Iterator[OwnAzure]:
    """Start everything; `settings` override the service's, `data` is the local Azure's data folder."""
    with open_upstreams(data) as (azure, storage, tables), taken_turns(tables):
        through_proxy = {"TABLE_STORAGE_CONNECTION_STRING": storage.connection_string}
        together = azure.env | GENEROUS | through_proxy | dict(settings or {})
        with Service(together, workers=workers, measured=measured) as service:
            yield OwnAzure(azure=azure, storage=storage, tables=tables, service=service, settings=together)


@contextmanager
def open_upstreams(data: Path | None = None) -> Iterator[tuple[LocalAzure, StorageProxy, TableServiceClient]]:
    """Start a local Azure and a proxy in front of its storage; the tables bypass the proxy."""
    with LocalAzure(data=data) as azure:
        connection_string = azure.env["TABLE_STORAGE_CONNECTION_STRING"]
        tables = TableServiceClient.from_connection_string(connection_string)
        with StorageProxy(connection_string) as storage, tables:
            yield azure, storage, tables
