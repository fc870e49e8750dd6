"""Client authentication of the web app; tests/entra/test_sign_in_credentials.py covers it with MSAL."""

import base64
import time
import uuid

import jwt
import pytest
import requests
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from local_azure.signing import SigningKey
from tests.local_azure.flows import ALICE, EntraFlow, read_error
from tests.support.local_azure import CALL_SECONDS, LocalAzure

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GARBAGE = {"client_assertion": "garbage", "client_assertion_type": ASSERTION_TYPE}
EXCHANGE_SCOPE = "api://AzureADTokenExchange/.default"


def test_secret_may_be_sent_by_basic_authentication(flow: EntraFlow) -> None:
    app = flow.azure.get_app()
    form = {"grant_type": "client_credentials", "scope": f"{app.client_id}/.default"}
    for secret, status in ((app.client_secret, 200), ("wrong", 401)):
        auth = (app.client_id, secret)
        response = flow.browser.post(flow.token_url, data=form, auth=auth, timeout=CALL_SECONDS)
        assert response.status_code == status


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": None}, (401, "invalid_client", 7000218)),
        *(({"client_secret": wrong}, (401, "invalid_client", 7000215)) for wrong in ("wrong", "ä")),
        ({"client_id": "00000000-0000-4000-8000-000000000000"}, (400, "unauthorized_client", 700016)),
        ({"client_id": None}, (400, "invalid_request", 900144)),
        ({"client_secret": None, **GARBAGE}, (401, "invalid_client", 50027)),
        ({"client_secret": None, "client_assertion": "x"}, (401, "invalid_client", 900144)),
    ],
)
def test_invalid_credentials_are_refused(
    flow: EntraFlow, changes: dict[str, str | None], error: object
) -> None:
    assert read_error(flow.post_token(grant_type="client_credentials", scope="x", **changes)) == error


def make_assertion(local_azure: LocalAzure, pem: bytes = b"", **changes: object) -> str:
    """Return an assertion signed with the registered key, or with the one in `pem`."""
    app = local_azure.get_app()
    pem = pem or app.certificate_path.read_bytes()
    digest = load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
    claims: dict[str, object] = {
        "aud": f"{app.tls_origin}/organizations/oauth2/v2.0/token",
        "jti": str(uuid.uuid4()),
        "exp": int(time.time()) + 60,
    }
    return jwt.encode(
        claims | {"iss": app.client_id, "sub": app.client_id} | changes,
        load_pem_private_key(pem, None),  # type: ignore[arg-type]  # the file holds an RSA key
        algorithm="PS256",
        headers={"x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()},
    )


def post_assertion(flow: EntraFlow, assertion: str) -> requests.Response:
    proof = {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE, "client_secret": None}
    scope = f"{flow.azure.get_app().client_id}/.default"
    return flow.post_token(grant_type="client_credentials", scope=scope, **proof)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "https://localhost/elsewhere"}, 700023),
        ({"exp": 1_000_000_000}, 700024),
        ({"sub": "someone-else"}, 700027),
    ],
)
def test_certificate_assertion_is_checked(flow: EntraFlow, changes: dict[str, object], code: int) -> None:
    wrong = post_assertion(flow, make_assertion(flow.azure, b"", **changes))
    assert read_error(wrong) == (401, "invalid_client", code)


def test_certificate_assertion_is_accepted_once(flow: EntraFlow) -> None:
    assertion = make_assertion(flow.azure)
    assert post_assertion(flow, assertion).status_code == 200
    assert read_error(post_assertion(flow, assertion)) == (401, "invalid_client", 700030)


def test_assertion_by_another_certificate_is_refused(flow: EntraFlow) -> None:
    other = SigningKey.generate("somebody else")
    pem = (other.private_pem + other.certificate_pem).encode()
    response = post_assertion(flow, make_assertion(flow.azure, pem))
    assert read_error(response) == (401, "invalid_client", 700027)


def test_only_the_exchange_token_is_accepted(flow: EntraFlow, identity: ManagedIdentityCredential) -> None:
    exchange = identity.get_token(EXCHANGE_SCOPE).token
    assert post_assertion(flow, exchange).status_code == 200
    head, _, signature = exchange.rpartition(".")
    forged = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    storage = identity.get_token("https://storage.azure.com/.default").token
    other, _ = flow.azure.mint_tokens(username=ALICE)
    person, _ = flow.azure.mint_tokens(username=ALICE, claims={"aud": "api://AzureADTokenExchange"})
    for wrong, code in ((forged, 700211), (storage, 700211), (other, 700212), (person, 700213)):
        assert read_error(post_assertion(flow, wrong)) == (401, "invalid_client", code)


def test_managed_identity_needs_header_and_client_id(
    local_azure: LocalAzure, identity: ManagedIdentityCredential
) -> None:
    for client_id in ("00000000-0000-4000-8000-000000000000", None):  # None: system-assigned
        with pytest.raises(CredentialUnavailableError):
            ManagedIdentityCredential(client_id=client_id).get_token(EXCHANGE_SCOPE)
    app, headers = local_azure.get_app(), {"X-IDENTITY-HEADER": "wrong"}
    query = {"api-version": "2019-08-01", "resource": "x", "client_id": app.identity_client_id}
    response = requests.get(app.identity_endpoint, query, headers=headers, timeout=CALL_SECONDS)
    assert response.status_code == 401
