"""`python -m local_azure --managed-identity`: its settings, and what its storage accepts instead of a key."""

from collections.abc import Iterator

import pytest
import requests
from azure.core.credentials import AccessToken, AzureNamedKeyCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.data.tables import TableServiceClient

from local_azure.azurite import ACCOUNT, ACCOUNT_KEY
from tests.support.local_azure import CALL_SECONDS, LocalAzure
from tests.support.secretless import ENDPOINT, IdentityToken, find_secrets, open_tables

ENTRA = ["ENTRA_AUTHORITY", "ENTRA_CLIENT_ID", "ENTRA_ALLOWED_TENANTS", "ENTRA_MANAGED_IDENTITY_CLIENT_ID"]
OTHERS = ["COMMUNICATION_SERVICES_ENDPOINT", ENDPOINT, "IDENTITY_ENDPOINT", "IDENTITY_HEADER"]
TRUST = ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "LOCAL_AZURE_CONTROL_URL"]


@pytest.fixture(scope="module")
def secretless() -> Iterator[LocalAzure]:
    with LocalAzure("--managed-identity") as running:
        yield running


def test_settings_hold_no_secret(secretless: LocalAzure) -> None:
    assert sorted(secretless.env) == sorted(ENTRA + OTHERS + TRUST)
    assert list(find_secrets(secretless.env)) == []
    for name in ("ENTRA_AUTHORITY", "COMMUNICATION_SERVICES_ENDPOINT", ENDPOINT):
        assert secretless.env[name].startswith("https://")


class OtherToken(IdentityToken):
    """A token of the identity for another resource."""

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        return super().get_token("https://communication.azure.com/.default")


def test_storage_accepts_tokens_for_it_alone(secretless: LocalAzure) -> None:
    with open_tables(secretless) as tables:
        tables.create_table("own").create_entity({"PartitionKey": "a", "RowKey": "b"})
    endpoint, ca_path = secretless.env[ENDPOINT], secretless.ca_path
    for credential in (OtherToken(secretless), AzureNamedKeyCredential(ACCOUNT, ACCOUNT_KEY)):
        tables = TableServiceClient(endpoint, credential=credential, connection_verify=ca_path)
        with tables, pytest.raises(ClientAuthenticationError):
            tables.create_table("others")


def test_storage_s_tokens_end(secretless: LocalAzure) -> None:
    app = secretless.change_app(identityTokenSeconds=-1)
    ended = IdentityToken(secretless).get_token("https://storage.azure.com/.default").token
    secretless.change_app(identityTokenSeconds=86_400)
    assert app.identity_endpoint == secretless.env["IDENTITY_ENDPOINT"]
    response = requests.get(
        f"{secretless.env[ENDPOINT]}/Tables",
        headers={"Authorization": f"Bearer {ended}", "x-ms-version": "2019-02-02"},
        verify=secretless.ca_path,
        timeout=CALL_SECONDS,
    )
    assert response.status_code == 403
