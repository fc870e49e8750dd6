"""The shared fixtures once more, with a service that has no key, secret or connection string."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient

from local_azure.authority import Authority
from tests.browser.conftest import chromium, open_window, window
from tests.conftest import admin, new_person, other_service, service, world
from tests.support.admin_client import CHANNELS, Admin
from tests.support.local_azure import LocalAzure
from tests.support.secretless import ENDPOINT, open_tables, secretless_settings
from tests.support.storage_proxy import StorageProxy

# pytest makes new fixtures of these, for this folder, from the ones below.
__all__ = ["admin", "chromium", "new_person", "open_window", "other_service", "service", "window", "world"]


@pytest.fixture(scope="session")
def azure() -> Iterator[LocalAzure]:
    with LocalAzure("--managed-identity") as running:
        yield running


@pytest.fixture(scope="session")
def storage_proxy(azure: LocalAzure) -> Iterator[StorageProxy]:
    with StorageProxy(azure.env[ENDPOINT], Authority(Path(azure.ca_path).parent)) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def settings(
    azure: LocalAzure, storage_proxy: StorageProxy, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    own = secretless_settings(azure, tmp_path_factory.mktemp("secretless"))
    return own | {ENDPOINT: storage_proxy.connection_string}


@pytest.fixture(scope="session")
def tables(azure: LocalAzure) -> Iterator[TableServiceClient]:
    with open_tables(azure) as client:
        yield client


@pytest.fixture(params=CHANNELS)
def do(request: pytest.FixtureRequest, admin: Admin) -> Callable[..., object]:
    return partial(admin.do, request.param)
