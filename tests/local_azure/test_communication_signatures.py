"""Who may call Communication Services: signatures by the access key, and the managed identity."""

import base64
from time import time

import pytest
import requests
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential

from local_azure.communication.signatures import hash_content, sign
from tests.local_azure.clients import open_client
from tests.local_azure.flows import ALICE
from tests.local_azure.resource import Resource
from tests.support.local_azure import LocalAzure

PATH = "/identities?api-version=2023-10-01"
COMMUNICATION = "https://communication.azure.com"


@pytest.mark.parametrize(
    ("target", "signature"),
    [
        # pragma: allowlist nextline secret (a signature that Microsoft published)
        ("/", "88MDmJhUR3m5QhFxb8ztShsSwlGrg7g/6XPnWf7QEO4="),
        # pragma: allowlist nextline secret (likewise)
        ("/testPath", "RoCrHjw7fb9fpHSbqvRUY2xa8RBS0YvI1cxI1x8AS38="),
        # pragma: allowlist nextline secret (likewise)
        ("/testPath?testQuery=yes", "il99+rd6V5O136roX/zVePCNle78HmvC4B7tu9zRH3I="),
    ],
)
def test_signature_is_that_of_the_sdks(target: str, signature: str) -> None:
    """Microsoft's SDKs hold these three vectors in their own tests."""
    made = sign(
        base64.b64decode("pw=="),
        verb="GET",
        target=target,
        date="Wed, 13 Apr 2022 18:09:12 GMT",
        host="contoso.communicationservices.azure.com",
        content_hash=hash_content(b""),
    )
    assert made == signature


def is_denied(answer: requests.Response) -> bool:
    return answer.status_code == 401 and answer.json() == {
        "error": {"code": "Denied", "message": "Denied by the resource provider."}
    }


def test_signed_request_is_taken(resource: Resource) -> None:
    assert resource.post(PATH, resource.sign(PATH)).status_code == 201


def test_raw_target_is_signed_whichever_way_it_is_encoded(
    local_azure: LocalAzure, resource: Resource
) -> None:
    raw_id = resource.post(PATH, resource.sign(PATH)).json()["identity"]["id"]
    for spelling in (raw_id, raw_id.replace(":", "%3A")):
        target = f"/identities/{spelling}/:revokeAccessTokens?api-version=2023-10-01"
        assert resource.post(target, resource.sign(target)).status_code == 204


@pytest.mark.parametrize("minutes", [-16, 16])
def test_old_and_early_dates_are_denied(resource: Resource, minutes: int) -> None:
    assert is_denied(resource.post(PATH, resource.sign(PATH, date=time() + minutes * 60)))


@pytest.mark.parametrize("minutes", [-14, 14])
def test_dates_within_the_skew_are_taken(resource: Resource, minutes: int) -> None:
    assert resource.post(PATH, resource.sign(PATH, date=time() + minutes * 60)).status_code == 201


def test_another_body_is_denied(resource: Resource) -> None:
    headers = resource.sign(PATH, body=b"{}")
    assert resource.post(PATH, headers, b"{}").status_code == 201
    assert is_denied(resource.post(PATH, headers, b'{"expiresInMinutes":60}'))
    # Nor may the hash be changed along with the body: it is signed.
    assert is_denied(resource.post(PATH, {**headers, "x-ms-content-sha256": hash_content(b"[]")}, b"[]"))


@pytest.mark.parametrize(
    "change",
    [
        {"Authorization": ""},
        {"Authorization": "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=AAAA"},
        {"Authorization": "Bearer garbage"},
        {"x-ms-date": ""},
        {"x-ms-date": "yesterday"},
        {"x-ms-content-sha256": ""},
        {"Host": "elsewhere.communication.azure.com"},
    ],
)
def test_wrong_headers_are_denied(resource: Resource, change: dict[str, str]) -> None:
    assert is_denied(resource.post(PATH, {**resource.sign(PATH), **change}))


def test_another_target_is_denied(resource: Resource) -> None:
    assert is_denied(resource.post(f"{PATH}&x=1", resource.sign(PATH)))


def test_unsupported_api_version_is_refused(resource: Resource) -> None:
    for target in ("/identities?api-version=2020-01-01", "/identities"):
        answer = resource.post(target, resource.sign(target))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "UnsupportedApiVersionValue")


def test_sdk_with_a_wrong_key_is_denied(local_azure: LocalAzure) -> None:
    wrong = AzureKeyCredential(base64.b64encode(b"wrong").decode())
    with (
        open_client(local_azure, credential=wrong) as client,
        pytest.raises(ClientAuthenticationError, match="Denied"),
    ):
        client.create_user()


def test_sdk_signs_a_wrong_host_where_the_endpoint_ends_in_a_slash(
    local_azure: LocalAzure, resource: Resource
) -> None:
    with (
        open_client(local_azure, endpoint=resource.endpoint) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.create_user()


def test_sdk_with_the_managed_identity_is_taken(
    local_azure: LocalAzure, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = local_azure.get_app()
    monkeypatch.setenv("IDENTITY_ENDPOINT", app.identity_endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", app.identity_header)
    credential = ManagedIdentityCredential(client_id=app.identity_client_id)
    with open_client(local_azure, credential=credential) as client:
        assert client.create_user().raw_id in local_azure.list_identities()
    token = credential.get_token("https://storage.azure.com/.default").token
    assert is_denied(resource.post(PATH, {"Authorization": f"Bearer {token}"}))


def test_token_of_a_person_is_denied(local_azure: LocalAzure, resource: Resource) -> None:
    token, _ = local_azure.mint_tokens(username=ALICE, claims={"aud": COMMUNICATION})
    assert is_denied(resource.post(PATH, {"Authorization": f"Bearer {token}"}))
