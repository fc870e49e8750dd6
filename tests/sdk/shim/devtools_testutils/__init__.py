"""The test tools that the SDK's tests import; here the "live service" that they record is the local Azure."""

import os
from collections.abc import Callable
from typing import TypeVar

import msal
import pytest
import requests

Test = TypeVar("Test", bound=Callable[..., object])

CALL_SECONDS = 20


class AzureRecordedTestCase:
    """Base class of the SDK's test cases."""

    def is_playback(self) -> bool:
        """Tell whether answers come from a recording: never."""
        return False


class LocalUsers:
    """Stands in for MSAL's public client: signs in with a password, which the local Entra ID has none of."""

    def __init__(self, client_id: str, authority: str) -> None:
        """Sign in for the app `client_id`."""
        self._client_id = client_id

    def acquire_token_by_username_password(
        self, username: str, password: str, scopes: list[str]
    ) -> dict[str, object]:
        """Return a Teams-scoped token, minted by the local Azure's control route, and whose it is."""
        control = os.environ["LOCAL_AZURE_CONTROL_URL"]
        wish = {"username": username, "scope": " ".join(scopes), "clientId": self._client_id}
        response = requests.post(f"{control}/entra/token", json=wish, timeout=CALL_SECONDS).json()
        accounts = requests.get(f"{control}/accounts", timeout=CALL_SECONDS).json()
        oid = next(account["objectId"] for account in accounts if account["username"] == username)
        return {"access_token": response["access_token"], "id_token_claims": {"oid": oid}}


# The test case imports MSAL's client by name, after this module.
msal.PublicClientApplication = LocalUsers


def is_live() -> bool:
    """Tell whether the tests speak to a service: always."""
    return True


def recorded_by_proxy(test: Test) -> Test:
    """Return the test as it is: nothing is recorded."""
    return test


def _do_nothing(**options: object) -> None:
    """Take the settings of the recorder, which is not there."""


set_default_session_settings = add_oauth_response_sanitizer = add_general_string_sanitizer = _do_nothing
add_general_regex_sanitizer = add_body_key_sanitizer = add_header_regex_sanitizer = _do_nothing


@pytest.fixture(scope="session")
def test_proxy() -> None:
    """Give the SDK's conftest the fixture it asks for."""
