"""A service that sends telemetry several times a second, and instances with a canary."""

import logging
from collections.abc import Iterator

import pytest
from azure.data.tables import TableServiceClient

from tests.support.canary_scene import Scene, open_scene
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import World
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy
from tests.support.telemetry import OFTEN, Telemetry


@pytest.fixture(scope="module")
def telemetry(
    azure: LocalAzure, storage_proxy: StorageProxy, tables: TableServiceClient, settings: dict[str, str]
) -> Iterator[Telemetry]:
    own = settings | OFTEN | {"APPLICATIONINSIGHTS_CONNECTION_STRING": azure.telemetry_connection_string}
    with Service(own, measured=True) as service:
        world = World(azure=azure, storage=storage_proxy, tables=tables, service=service, settings=own)
        yield Telemetry(world)


@pytest.fixture(scope="module")
def canary_upstreams() -> Iterator[Scene]:
    with open_scene() as scene:
        yield scene


@pytest.fixture
def scene(canary_upstreams: Scene, caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    caplog.set_level(logging.INFO)
    yield canary_upstreams
    canary_upstreams.clean()
