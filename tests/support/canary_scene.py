"""Instances of the service in this process, whose canary runs when a test says so."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.commands import run_command
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import GENEROUS, open_upstreams
from tests.support.rows import empty, find_row
from tests.support.settings import OWN_SETTINGS
from tests.support.storage_proxy import StorageProxy
from trusted_service.app import create_app
from trusted_service.observability import logs
from trusted_service.services import Services
from trusted_service.settings import Settings

KEY = ("resource", "canary")


@dataclass
class Scene:
    azure: LocalAzure
    storage: StorageProxy
    tables: TableServiceClient
    env: dict[str, str]
    instances: list[Services] = field(default_factory=list)

    def new_instance(self, changes: Mapping[str, str | None] | None = None) -> Services:
        changed = self.env | OWN_SETTINGS | dict(changes or {})
        self.instances.append(
            Services(Settings.from_env({name: value for name, value in changed.items() if value is not None}))
        )
        return self.instances[-1]

    def new_application(self) -> Flask:
        return create_app(Settings.from_env(self.env | OWN_SETTINGS))

    def identity(self) -> str:
        row = find_row(self.tables, "ledger", *KEY)
        return str(row["AcsUserId"]) if row else ""

    def read_map(self) -> list[str]:
        """The lines of `users identity-map`, without the header."""
        done = run_command(self.new_application(), "users", "identity-map")
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()[1:]

    def with_turn(self) -> Services:
        """A new instance whose turn it is in a storage with a user's identity, and the canary has none."""
        instance = self.new_instance()
        instance.pin.admit(self.azure.new_unknown_identity())
        instance.canary.run()  # makes the row
        return instance

    def with_identity(self) -> Services:
        instance = self.with_turn()
        instance.canary.run()
        assert self.identity()
        return instance

    def clean(self) -> None:
        self.azure.clear_faults()
        self.storage.clear()
        for identity in self.azure.list_identities():
            self.azure.delete_identity(identity)
        empty(self.env, "ledger")


@contextmanager
def open_scene() -> Iterator[Scene]:
    with open_upstreams() as (azure, storage, tables), azure.in_environment():
        logs.configure("json")
        through_proxy = {"TABLE_STORAGE_CONNECTION_STRING": storage.connection_string}
        yield Scene(azure, storage, tables, azure.env | GENEROUS | through_proxy)


def names(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The canary's log lines since the last call, with the upstream."""
    lines = [record for record in caplog.records if record.message.startswith("canary_")]
    caplog.clear()
    return [" ".join([line.message, getattr(line, "upstream", "")]).strip() for line in lines]
