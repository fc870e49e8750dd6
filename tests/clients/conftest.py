"""An access token for the clients."""

import pytest

from tests.support.admin_client import bearer
from tests.support.local_azure import LocalAzure
from tests.support.person import Person


@pytest.fixture
def access_token(azure: LocalAzure, person: Person) -> str:
    """An Entra ID access token of `person` for the service."""
    return bearer(azure, person)["Authorization"].removeprefix("Bearer ")
