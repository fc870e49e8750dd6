"""A storage with every kind of user and ledger entry, and what a restored one must have in common with it."""

import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.commands import read_json, run_command
from tests.support.rows import FORMER_RESOURCE, empty
from tests.support.seed import identity_row, ledger_row, make_users, put_rows, seed_users
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.access.user_index import VERSION
from trusted_service.app import create_app
from trusted_service.models import Identity
from trusted_service.settings import Settings
from trusted_service.storage.index_rows import index_rows

TABLES = ("identities", "ledger", "userindex")
Snapshot = dict[str, dict[tuple[str, str], dict[str, Any]]]


@dataclass
class Backup:
    """A storage behind a proxy, and the file of its backup."""

    proxy: StorageProxy
    env: dict[str, str]
    path: Path

    def application(self) -> Flask:
        """A new process, in effect, which has cached nothing."""
        return create_app(Settings.from_env(self.env))

    def export(self, *arguments: str) -> list[dict[str, Any]]:
        """Write the backup; return its documents."""
        done = run_command(self.application(), "users", "export", *arguments)
        assert done.exit_code == 0, done.output
        self.path.write_text(done.stdout, encoding="utf-8")
        documents = read_json(done)
        return documents if isinstance(documents, list) else [documents]

    def run_before(
        self, method: str, about: str, action: Callable[[], object], *, table: str = "ledger"
    ) -> Fault:
        """Run the action before the next call of the table that mentions this."""
        fault = Fault(kind="signal", method=method, table=table, about=about, times=1, action=action)
        self.proxy.plant(fault)
        return fault

    def restore(self, *options: str, exit_code: int = 0) -> list[tuple[str, str]]:
        done = run_command(self.application(), "users", "import", str(self.path), "--json", *options)
        assert done.exit_code == exit_code, done.output
        return [(row["result"], row["detail"]) for row in read_json(done)]


def fill(settings: Mapping[str, str], count: int) -> list[Identity]:
    """Plant `count` users of whom some are blocked or had another identity, and what has no identity."""
    users = seed_users(settings, count, blocked=0.1)
    add_history(settings, users)
    return users


def add_history(settings: Mapping[str, str], users: Sequence[Identity]) -> None:
    """Give every twentieth user a former identity, and plant what has no identity."""
    resource = (users[0].acs_user_id or "").partition("_")[0]
    # Two days ago: the tokens of another resource, which a block cannot revoke, have ended.
    now = (datetime.now(UTC) - timedelta(days=2)).replace(microsecond=123456)
    for user in users[: len(users) // 20]:  # of a resource from which users were moved
        row = {**identity_row(user, indexed=True), "SwitchedAt": now, "BlockReason": "left, é"}
        put_rows(settings, "identities", [row])
        former = replace(user, acs_user_id=f"{FORMER_RESOURCE}_{uuid.uuid4()}")
        ended: dict[str, object] = {**ledger_row(former), "Until": now, "Reason": "moved"}
        current: dict[str, object] = {**ledger_row(user), "Since": now}
        copies = [_copy(one, user) for one in (ended, current)]
        put_rows(settings, "ledger", [ended, current, *copies])
    tenant = users[0].user_id.tenant_id
    never, gone, lost = make_users(3, tenant, resource.rpartition(":")[2])
    block = {**identity_row(replace(never, acs_user_id=None, blocked=True), indexed=True), "BlockReason": "x"}
    put_rows(settings, "identities", [block])
    put_rows(settings, "userindex", index_rows(replace(never, acs_user_id=None, blocked=True)))
    erased = {**ledger_row(gone), "TenantId": "", "ObjectId": "", "Reason": "deleted"}
    del erased["Since"]
    put_rows(settings, "ledger", [erased, ledger_row(lost)])
    pin = {"PartitionKey": "resource", "RowKey": "pin", "Resource": resource, "Former": FORMER_RESOURCE}
    put_rows(settings, "ledger", [pin])
    put_rows(settings, "userindex", [{"PartitionKey": "index", "RowKey": "complete", "Version": VERSION}])


def _copy(row: Mapping[str, object], user: Identity) -> dict[str, object]:
    partition = f"user-{user.user_id.object_id}-{user.user_id.tenant_id}"
    return {**row, "PartitionKey": partition, "RowKey": row["PartitionKey"]}


def switch(settings: Mapping[str, str], user: Identity, now: Identity) -> None:
    """Let the user's row name the identity of `now`, as the service does for a missing one."""
    at = datetime.now(UTC)
    ended: dict[str, object] = {**ledger_row(user), "Until": at, "Reason": "replaced"}
    current: dict[str, object] = {**ledger_row(now), "Since": at}
    put_rows(settings, "ledger", [ended, current, _copy(ended, user), _copy(current, user)])
    put_rows(settings, "identities", [{**identity_row(now, indexed=True), "SwitchedAt": at}])


def wipe(settings: Mapping[str, str]) -> None:
    empty(settings, *TABLES)


def snapshot(settings: Mapping[str, str], *, versions: bool = False) -> Snapshot:
    """Every row but the marker of the index, with the columns that hold something."""
    found: Snapshot = {}
    with TableServiceClient.from_connection_string(settings["TABLE_STORAGE_CONNECTION_STRING"]) as tables:
        for name in TABLES:
            found[name] = {}
            with contextlib.suppress(ResourceNotFoundError):
                for row in tables.get_table_client(name).list_entities():
                    key = (row["PartitionKey"], row["RowKey"])
                    columns = {column: value for column, value in row.items() if value}
                    if key not in (("index", "complete"), ("resource", "canary")):
                        found[name][key] = columns | ({"etag": row.metadata["etag"]} if versions else {})
    return found


def differences(one: Snapshot, other: Snapshot) -> list[tuple[object, object, object]]:
    """The cells that differ: the table with the row's keys and the column, and both values."""
    return [
        ((table, *key, column), first, second)
        for table in TABLES
        for key in sorted({*one[table], *other[table]})
        for column in sorted({*one[table].get(key, {}), *other[table].get(key, {})})
        for first, second in [(one[table].get(key, {}).get(column), other[table].get(key, {}).get(column))]
        if first != second
    ]
