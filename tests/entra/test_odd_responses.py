"""Responses of Entra ID that are JSON, but not what they should be: 503 at most where they are needed."""

from collections.abc import Callable

import pytest
import requests

from tests.support.admin_client import bearer
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.settings import OWN_SETTINGS
from trusted_service.app import create_app
from trusted_service.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:response_mode")  # MSAL's, which the service ignores too

NESTED = '{"keys": ' + "[" * 100_000 + "]" * 100_000 + "}"
ENDPOINTS: dict[str, list[object]] = {
    "issuer": [5],
    "authorization_endpoint": [None, "x", "https://x:99999/"],
    "token_endpoint": [[]],
    "jwks_uri": ["", "https://[::1/x", "ftp://a.example/x", f"https://{'a' * 64}.example/x"],
    "end_session_endpoint": ["https://[::1/x", "https://é.example/x", "https://a.example;/x", {}],
}
KEYS: list[object] = [None, "RS256", {"kid": "a"}, [None, 5, [], {}, {"kid": "a"}, {"kid": [], "kty": "RSA"}]]
KEY_MEMBERS: list[dict[str, object]] = [{"issuer": 5}, {"n": 5}, {"n": ""}, {"e": "AA"}, {"kty": 5}]
READY, BEARER, SIGN_IN, HOME = PATHS = ("/readyz", "/api/me", "/auth/sign-in", "/")

GetAll = Callable[[str, object], dict[str, int]]


@pytest.fixture
def get_all(azure: LocalAzure, settings: dict[str, str], person: Person) -> GetAll:
    """Return the status of each path at a new service while Entra ID responds with this body."""
    headers = {BEARER: bearer(azure, person)}

    def get(operation: str, body: object) -> dict[str, int]:
        azure.clear_faults()
        azure.plant_fault("entra", operation, "status", status=200, times=None, body=body)
        with azure.in_environment():
            client = create_app(Settings.from_env(settings | OWN_SETTINGS)).test_client()
            return {path: client.get(path, headers=headers.get(path)).status_code for path in PATHS}

    return get


def read(azure: LocalAzure, path: str) -> dict[str, object]:
    url = f"{azure.env['ENTRA_AUTHORITY']}/{path}"
    return dict(requests.get(url, verify=azure.ca_path, timeout=10).json())


def test_wrong_discovery_document_is_503(azure: LocalAzure, get_all: GetAll) -> None:
    document = read(azure, "v2.0/.well-known/openid-configuration")
    assert get_all("discovery", document) == {READY: 200, BEARER: 200, SIGN_IN: 302, HOME: 200}
    wrong = [{name: value} for name, values in ENDPOINTS.items() for value in values]
    for body in [NESTED, *(document | change for change in wrong)]:
        assert get_all("discovery", body) == {READY: 503, BEARER: 503, SIGN_IN: 503, HOME: 200}, str(body)[
            :999
        ]


def test_wrong_keys_are_503(azure: LocalAzure, get_all: GetAll) -> None:
    published = read(azure, "discovery/v2.0/keys")["keys"]
    assert isinstance(published, list)
    changed = [[key | change for key in published] for change in KEY_MEMBERS]
    for body in [NESTED, *({"keys": keys} for keys in [*KEYS, *changed])]:
        assert get_all("keys", body) == {READY: 200, BEARER: 503, SIGN_IN: 302, HOME: 200}, str(body)[:999]
