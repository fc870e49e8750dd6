"""Authentication at Communication Services: access key signatures and the managed identity."""

import base64
from time import time

import pytest
import requests
from azure.identity import ManagedIdentityCredential

from local_azure.communication.signatures import hash_content, sign
from local_azure.entra.accounts import CONTOSO, name_version_1_issuer
from local_azure.entra.registration import IDENTITY_PRINCIPAL_ID
from tests.local_azure.clients import open_client
from tests.local_azure.flows import ALICE
from tests.local_azure.resource import Resource
from tests.support.local_azure import LocalAzure

PATH = "/identities?api-version=2023-10-01"
COMMUNICATION = "https://communication.azure.com"

# pragma: allowlist nextline secret (Microsoft published it)
ROOT = "88MDmJhUR3m5QhFxb8ztShsSwlGrg7g/6XPnWf7QEO4="
# pragma: allowlist nextline secret (likewise)
WITH_PATH = "RoCrHjw7fb9fpHSbqvRUY2xa8RBS0YvI1cxI1x8AS38="
# pragma: allowlist nextline secret (likewise)
WITH_QUERY = "il99+rd6V5O136roX/zVePCNle78HmvC4B7tu9zRH3I="


def test_signatures_are_those_of_the_sdks() -> None:
    """The three vectors come from the tests of Microsoft's SDKs."""
    date, host = "Wed, 13 Apr 2022 18:09:12 GMT", "contoso.communicationservices.azure.com"
    key, content_hash = base64.b64decode("pw=="), hash_content(b"")
    for target, expected in (("/", ROOT), ("/testPath", WITH_PATH), ("/testPath?testQuery=yes", WITH_QUERY)):
        made = sign(key, verb="GET", target=target, date=date, host=host, content_hash=content_hash)
        assert made == expected


def is_denied(response: requests.Response) -> bool:
    return response.status_code == 401 and response.json() == {
        "error": {"code": "Denied", "message": "Denied by the resource provider."}
    }


def test_signature_covers_the_raw_target(resource: Resource) -> None:
    raw_id = resource.send(PATH, resource.sign(PATH)).json()["identity"]["id"]
    for spelling in (raw_id, raw_id.replace(":", "%3A")):
        target = f"/identities/{spelling}/:revokeAccessTokens?api-version=2023-10-01"
        assert resource.send(target, resource.sign(target)).status_code == 204


@pytest.mark.parametrize(
    ("minutes", "accepted"), [(-16, False), (-14, True), (0, True), (14, True), (16, False)]
)
def test_date_may_differ_by_fifteen_minutes(resource: Resource, minutes: int, accepted: bool) -> None:
    response = resource.send(PATH, resource.sign(PATH, date=time() + minutes * 60))
    assert response.status_code == 201 if accepted else is_denied(response)


def test_changed_body_is_denied(resource: Resource) -> None:
    headers = resource.sign(PATH, body=b"{}")
    assert resource.send(PATH, headers, b"{}").status_code == 201
    assert is_denied(resource.send(PATH, headers, b'{"expiresInMinutes":60}'))
    # The hash cannot be changed along with the body: it is signed.
    assert is_denied(resource.send(PATH, {**headers, "x-ms-content-sha256": hash_content(b"[]")}, b"[]"))


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
    assert is_denied(resource.send(PATH, {**resource.sign(PATH), **change}))
    assert is_denied(resource.send(f"{PATH}&x=1", resource.sign(PATH)))


def test_unsupported_api_version_is_refused(resource: Resource) -> None:
    for target in ("/identities?api-version=2020-01-01", "/identities"):
        response = resource.send(target, resource.sign(target))
        assert (response.status_code, response.json()["error"]["code"]) == (400, "UnsupportedApiVersionValue")


def test_managed_identity_is_accepted_for_this_audience(
    local_azure: LocalAzure, resource: Resource, identity: ManagedIdentityCredential
) -> None:
    with open_client(local_azure, credential=identity) as client:
        assert client.create_user().raw_id in local_azure.list_identities()
    for_storage = identity.get_token("https://storage.azure.com/.default").token
    # Of a version that this resource does not accept, and of somebody else.
    own_claims = ({"oid": IDENTITY_PRINCIPAL_ID}, {"iss": name_version_1_issuer(CONTOSO)})
    others = [
        local_azure.mint_tokens(username=ALICE, claims={"aud": COMMUNICATION, **claims})[0]
        for claims in own_claims
    ]
    for token in (for_storage, *others):
        assert is_denied(resource.send(PATH, {"Authorization": f"Bearer {token}"}))
