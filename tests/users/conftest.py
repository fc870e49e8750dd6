"""A storage that is backed up and restored, for each test alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backup import Backup, wipe
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import GENEROUS
from tests.support.settings import OWN_SETTINGS
from tests.support.storage_proxy import StorageProxy


@pytest.fixture(scope="module")
def own_storage() -> Iterator[tuple[StorageProxy, dict[str, str]]]:
    storage = "TABLE_STORAGE_CONNECTION_STRING"
    with LocalAzure() as azure, azure.in_environment(), StorageProxy(azure.env[storage]) as proxy:
        yield proxy, azure.env | GENEROUS | OWN_SETTINGS | {storage: proxy.connection_string}


@pytest.fixture
def storage(own_storage: tuple[StorageProxy, dict[str, str]], tmp_path: Path) -> Iterator[Backup]:
    proxy, env = own_storage
    yield Backup(proxy, env, tmp_path / "backup.json")
    proxy.clear()
    wipe(env)
