"""A local Azure for this folder alone: its tests break it in ways that would disturb others."""

from collections.abc import Iterator

import pytest
import requests
from azure.identity import ManagedIdentityCredential

from tests.local_azure.flows import EntraFlow
from tests.local_azure.resource import Resource
from tests.support.local_azure import LocalAzure


@pytest.fixture(scope="session")
def running_azure() -> Iterator[LocalAzure]:
    with LocalAzure("--redirect-uri", "https://app.example/callback") as azure:
        yield azure


@pytest.fixture
def local_azure(running_azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """The local Azure without faults or recorded calls, its CA trusted by every SDK."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, running_azure.env[name])
    running_azure.clear_faults()
    running_azure.reset_calls()
    yield running_azure
    running_azure.clear_faults()


@pytest.fixture
def browser(local_azure: LocalAzure) -> Iterator[requests.Session]:
    """A browser without cookies."""
    with local_azure.make_session() as session:
        yield session


@pytest.fixture
def flow(local_azure: LocalAzure, browser: requests.Session) -> EntraFlow:
    """Hand-written sign-in requests."""
    return EntraFlow(local_azure, browser)


@pytest.fixture
def resource(local_azure: LocalAzure, browser: requests.Session) -> Resource:
    """The Communication Services resource, called without the SDK."""
    return Resource(local_azure, browser)


@pytest.fixture
def identity(local_azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> ManagedIdentityCredential:
    """The managed identity, as App Service lets the SDK find it."""
    app = local_azure.get_app()
    monkeypatch.setenv("IDENTITY_ENDPOINT", app.identity_endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", app.identity_header)
    return ManagedIdentityCredential(client_id=app.identity_client_id)
