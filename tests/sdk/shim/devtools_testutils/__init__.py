"""Replaces the test tools that the SDK's tests import; their "live service" is the local Azure."""

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
        """Return False: responses never come from a recording."""
        return False


class LocalUsers:
    """Replaces MSAL's public client, whose password sign-in the local Entra ID does not support."""

    def __init__(self, client_id: str, authority: str) -> None:
        """Sign in for the app `client_id`."""
        self._client_id = client_id

    def acquire_token_by_username_password(
        self, username: str, password: str, scopes: list[str]
    ) -> dict[str, object]:
        """Return a Teams-scoped token minted by the local Azure's control route, and its user's object id."""
        control = os.environ["LOCAL_AZURE_CONTROL_URL"]
        body = {"username": username, "scope": " ".join(scopes), "clientId": self._client_id}
        response = requests.post(f"{control}/entra/token", json=body, timeout=CALL_SECONDS).json()
        accounts = requests.get(f"{control}/accounts", timeout=CALL_SECONDS).json()
        oid = next(account["objectId"] for account in accounts if account["username"] == username)
        return {"access_token": response["access_token"], "id_token_claims": {"oid": oid}}


# The test case imports MSAL's client by name, after this module.
msal.PublicClientApplication = LocalUsers


def is_live() -> bool:
    """Return True: the tests always call a live service."""
    return True


def recorded_by_proxy(test: Test) -> Test:
    """Return the test unchanged: nothing is recorded."""
    return test


def _do_nothing(**options: object) -> None:
    """Ignore the settings of the recorder, which does not exist here."""


set_default_session_settings = add_oauth_response_sanitizer = add_general_string_sanitizer = _do_nothing
add_general_regex_sanitizer = add_body_key_sanitizer = add_header_regex_sanitizer = _do_nothing


@pytest.fixture(scope="session")
def test_proxy() -> None:
    """Provide the fixture that the SDK's conftest requests."""
