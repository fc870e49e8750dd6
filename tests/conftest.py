"""Shared fixtures: one local Azure per process and its services; each test has its own users."""

import contextlib
import gc
from collections.abc import Callable, Iterator

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.admin_client import ROLE, Admin
from tests.support.canary import taken_turns
from tests.support.concurrency import wait_until
from tests.support.local_azure import LocalAzure, LocalAzureError
from tests.support.own_azure import GENEROUS, World
from tests.support.person import Person
from tests.support.redis import Redis
from tests.support.rows import list_sessions, wait_until_indexed
from tests.support.service import Service
from tests.support.settings import OWN_SETTINGS
from tests.support.storage_proxy import StorageProxy
from trusted_service.app import create_app
from trusted_service.services import Services
from trusted_service.settings import Settings

SLOWEST_FILES = """
    jobs/test_jobs_resume access/test_resource_pin access/test_missing_identity cli/test_command_crashes
    faults/test_fault_matrix faults/test_admin_faults users/test_user_index usage/test_usage
    faults/test_crashes test_make_run cli/test_user_commands observability/test_readiness faults/test_soak
    observability/test_alerts observability/test_telemetry
    jobs/test_jobs browser/test_accessibility users/test_overlapping_actions users/test_restored_copies
    web/test_rate_limits clients/test_retries web/test_schemathesis faults/test_sign_in_faults
    entra/test_bearer_keys
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first, so that none of them runs alone at the end."""
    order = {f"tests/{name}.py": position for position, name in enumerate(SLOWEST_FILES.split())}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """What a file leaves open fails there, and not where the garbage collector happens to find it."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def azure() -> Iterator[LocalAzure]:
    with LocalAzure() as running:
        yield running


@pytest.fixture(scope="session")
def storage_proxy(azure: LocalAzure) -> Iterator[StorageProxy]:
    with StorageProxy(azure.env["TABLE_STORAGE_CONNECTION_STRING"]) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis() as running:
        yield running


@pytest.fixture(scope="session")
def settings(azure: LocalAzure, storage_proxy: StorageProxy) -> dict[str, str]:
    """Settings for the local Azure, with its storage behind the proxy and generous rate limits."""
    return azure.env | GENEROUS | {"TABLE_STORAGE_CONNECTION_STRING": storage_proxy.connection_string}


@pytest.fixture(scope="session")
def service(settings: dict[str, str], tables: TableServiceClient) -> Iterator[Service]:
    with taken_turns(tables), Service(settings, measured=True) as running:
        yield running


@pytest.fixture(scope="session")
def other_service(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """A second instance with the same PUBLIC_URL, on another port."""
    with Service(settings | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.fixture(scope="session")
def application(azure: LocalAzure, settings: dict[str, str]) -> Flask:
    """The service in this process, for tests that send no request."""
    with azure.in_environment():
        return create_app(Settings.from_env(settings | OWN_SETTINGS))


@pytest.fixture(scope="session")
def services(application: Flask) -> Services:
    """The service objects of that application."""
    services: Services = application.extensions["trusted_service"]
    return services


@pytest.fixture(scope="session")
def world(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    tables: TableServiceClient,
    service: Service,
    settings: dict[str, str],
) -> World:
    """The upstreams and the first instance in one object."""
    return World(azure=azure, storage=storage_proxy, tables=tables, service=service, settings=settings)


@pytest.fixture(autouse=True)
def _clear_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    # Requested before the test, so that pytest tears down a test's own `world` only after this.
    world = request.getfixturevalue("world") if "world" in request.fixturenames else None
    yield
    if isinstance(world, World):
        world.clear_faults()
    if "azure" in request.fixturenames:
        request.getfixturevalue("azure").clear_faults()
    if "storage_proxy" in request.fixturenames:
        request.getfixturevalue("storage_proxy").clear()


@pytest.fixture(scope="session")
def new_person(azure: LocalAzure, service: Service) -> Callable[..., Person]:
    """Create a person, by default in the allowed tenant and at the first instance."""

    def make(*, at: Service = service, **account: object) -> Person:
        return Person(azure, at.url, azure.new_account(**account))

    return make


@pytest.fixture
def person(azure: LocalAzure, new_person: Callable[..., Person]) -> Iterator[Person]:
    """A person without session or identity, deleted afterwards because the account picker lists everyone."""
    person = new_person()
    yield person
    with contextlib.suppress(LocalAzureError):  # the test may have deleted it
        azure.delete_account(person.account.username)


@pytest.fixture
def signed_in(person: Person) -> Person:
    """A new person who is signed in and has no identity yet."""
    return person.signed_in()


@pytest.fixture
def mapped_user(tables: TableServiceClient, signed_in: Person) -> Person:
    """A new signed-in user whose identity is cached in the session."""
    assert signed_in.token().status_code == 200
    wait_until(lambda: all(row.get("AcsUserId") for row in list_sessions(tables, signed_in)))
    wait_until_indexed(tables, signed_in.account.object_id)
    return signed_in


@pytest.fixture(scope="session")
def shared_user(new_person: Callable[..., Person]) -> Person:
    """A user with an identity and a session, for tests that do not change them."""
    person = new_person().signed_in()
    assert person.token().status_code == 200
    return person


@pytest.fixture(scope="session")
def tables(azure: LocalAzure) -> TableServiceClient:
    """The tables, accessed without the proxy."""
    return TableServiceClient.from_connection_string(azure.env["TABLE_STORAGE_CONNECTION_STRING"])


@pytest.fixture(scope="session")
def admin(new_person: Callable[..., Person]) -> Admin:
    """An administrator signed in at the first instance."""
    return Admin(new_person(roles=[ROLE], name="Ada Ministrator").signed_in())
