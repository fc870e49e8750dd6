"""One local Azure for all tests, and services in front of it; every test has people of its own."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.desk import ROLE, Desk
from tests.support.index_rows import wait_until_indexed
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.settings import OF_ITS_OWN
from tests.support.storage_proxy import StorageProxy
from tests.support.together import wait_until
from trusted_service.app import create_app
from trusted_service.config import Settings

LONGEST_FILES = (
    "tests/test_jobs_resume.py",
    "tests/test_user_index.py",
    "tests/test_fault_matrix.py",
    "tests/test_crashes.py",
    "tests/sdk/test_sdk_conformance.py",
    "tests/test_usage.py",
    "tests/test_admin_faults.py",
    "tests/test_soak.py",
    "tests/test_races.py",
    "tests/test_schemathesis.py",
    "tests/test_jobs.py",
    "tests/end_to_end/test_accessibility.py",
    "tests/test_admin_users.py",
    "tests/test_sign_in_faults.py",
    "tests/test_make_run.py",
)
GENEROUS = {
    "RATE_LIMIT_TOKEN": "100000 per minute",
    "RATE_LIMIT_SIGN_IN": "100000 per minute",
    "MISSING_IDENTITY_GRACE_SECONDS": "0",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, or one of them would run on alone at the end."""
    order = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.fixture(scope="session")
def azure() -> Iterator[LocalAzure]:
    with LocalAzure() as running:
        yield running


@pytest.fixture(scope="session")
def storage_proxy(azure: LocalAzure) -> Iterator[StorageProxy]:
    with StorageProxy(azure.env["TABLE_STORAGE_CONNECTION_STRING"]) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def settings(azure: LocalAzure, storage_proxy: StorageProxy) -> dict[str, str]:
    """Settings that lead to the local Azure, storage through the proxy, without tight limits."""
    return azure.env | GENEROUS | {"TABLE_STORAGE_CONNECTION_STRING": storage_proxy.connection_string}


@pytest.fixture(scope="session")
def service(settings: dict[str, str]) -> Iterator[Service]:
    with Service(settings, measured=True) as running:
        yield running


@pytest.fixture(scope="session")
def other_service(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """A second instance behind the same address: only the port differs."""
    with Service(settings | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.fixture(scope="session")
def application(azure: LocalAzure, settings: dict[str, str]) -> Flask:
    """The service inside this process, for what can be asked of it without a request."""
    with azure.in_environment():
        return create_app(Settings.from_env(settings | OF_ITS_OWN))


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "azure" in request.fixturenames:
        request.getfixturevalue("azure").clear_faults()
    if "storage_proxy" in request.fixturenames:
        request.getfixturevalue("storage_proxy").clear()


@pytest.fixture(scope="session")
def new_person(azure: LocalAzure, service: Service) -> Callable[..., Person]:
    """Make a person nobody has seen, by default of the allowed tenant and at the first instance."""

    def make(*, at: Service = service, **account: object) -> Person:
        username = f"person-{uuid.uuid4().hex[:12]}@contoso.example"
        members = {"name": "Test Person", "tenantId": azure.env["ENTRA_ALLOWED_TENANTS"]} | account
        return Person(azure, at.url, azure.put_account(username, **members))

    return make


@pytest.fixture
def person(new_person: Callable[..., Person]) -> Person:
    """A person nobody has seen, not signed in yet."""
    return new_person()


@pytest.fixture
def signed_in(person: Person) -> Person:
    """A new person who is signed in and has no identity yet."""
    assert person.sign_in().status_code == 302
    return person


@pytest.fixture
def settled(tables: TableServiceClient, signed_in: Person) -> Person:
    """A new person with an identity that their session knows."""
    assert signed_in.token().status_code == 200
    wait_until(lambda: all(row.get("AcsUserId") for row in list_sessions(tables, signed_in)))
    wait_until_indexed(tables, signed_in.account.object_id)
    return signed_in


@pytest.fixture(scope="session")
def regular(new_person: Callable[..., Person]) -> Person:
    """Somebody with an identity and a session, shared by the tests that change nothing about them."""
    person = new_person()
    assert person.sign_in().status_code == 302
    assert person.token().status_code == 200
    return person


@pytest.fixture(scope="session")
def tables(azure: LocalAzure) -> TableServiceClient:
    """The tables themselves, past the proxy."""
    return TableServiceClient.from_connection_string(azure.env["TABLE_STORAGE_CONNECTION_STRING"])


@pytest.fixture(scope="session")
def desk(new_person: Callable[..., Person]) -> Desk:
    """An administrator who is signed in at the first instance."""
    person = new_person(roles=[ROLE], name="Ada Ministrator")
    assert person.sign_in().status_code == 302
    return Desk(person)
