"""How the web app proves itself: secret, certificate, managed identity; the real MSAL does it all."""

import base64
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import jwt
import msal
import pytest
import requests
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from local_azure.signing import SigningKey
from tests.local_azure.flows import ALICE, CALLBACK, EntraFlow, read_error, read_query
from tests.support.local_azure import CALL_SECONDS, LocalAzure

# MSAL recommends form_post, which a session cookie with SameSite=Lax cannot follow.
pytestmark = pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended:UserWarning")

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE_SCOPE = "api://AzureADTokenExchange/.default"

SignIn = Callable[[object], dict[str, object]]


@pytest.fixture
def sign_in(local_azure: LocalAzure, browser: requests.Session) -> SignIn:
    """Sign Alice in with MSAL and the given client credential."""

    def run(credential: object) -> dict[str, object]:
        app = msal.ConfidentialClientApplication(
            local_azure.env["ENTRA_CLIENT_ID"],
            client_credential=credential,
            authority=local_azure.env["ENTRA_AUTHORITY"],
            instance_discovery=False,
        )
        flow = app.initiate_auth_code_flow([], redirect_uri=CALLBACK)
        location = local_azure.sign_in(browser, flow["auth_uri"], ALICE)
        result: dict[str, object] = app.acquire_token_by_auth_code_flow(flow, read_query(location))
        return result

    return run


@pytest.fixture
def identity(local_azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> ManagedIdentityCredential:
    """The managed identity, as App Service lets the SDK find it."""
    app = local_azure.get_app()
    monkeypatch.setenv("IDENTITY_ENDPOINT", app.identity_endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", app.identity_header)
    return ManagedIdentityCredential(client_id=app.identity_client_id)


def test_msal_signs_in_with_a_secret(local_azure: LocalAzure, sign_in: SignIn) -> None:
    claims = sign_in(local_azure.env["ENTRA_CLIENT_SECRET"])["id_token_claims"]
    assert isinstance(claims, dict)
    assert claims["oid"] == local_azure.get_account(ALICE).object_id


def test_msal_signs_in_with_a_certificate(local_azure: LocalAzure, sign_in: SignIn) -> None:
    pem = local_azure.get_app().certificate_path.read_text()
    assert "id_token" in sign_in({"private_key": pem, "public_certificate": pem})
    # By thumbprint MSAL signs RS256 with x5t, by certificate PS256 with x5t#S256.
    thumbprint = load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA1()).hex()  # noqa: S303
    assert "id_token" in sign_in({"private_key": pem, "thumbprint": thumbprint})


def test_msal_signs_in_with_the_managed_identity(
    sign_in: SignIn, identity: ManagedIdentityCredential
) -> None:
    assert "id_token" in sign_in({"client_assertion": lambda: identity.get_token(EXCHANGE_SCOPE).token})


def test_msal_is_told_of_a_wrong_secret(sign_in: SignIn) -> None:
    result = sign_in("wrong")
    assert (result["error"], result["error_codes"]) == ("invalid_client", [7000215])


def test_secret_may_be_sent_by_basic_authentication(local_azure: LocalAzure, flow: EntraFlow) -> None:
    app = local_azure.get_app()
    form = {"grant_type": "client_credentials", "scope": f"{app.client_id}/.default"}
    for secret, status in ((app.client_secret, 200), ("wrong", 401)):
        answer = flow.browser.post(
            flow.token_url, data=form, auth=(app.client_id, secret), timeout=CALL_SECONDS
        )
        assert answer.status_code == status


def test_changed_secret_replaces_the_old_one(local_azure: LocalAzure, flow: EntraFlow) -> None:
    old = local_azure.get_app().client_secret
    new = local_azure.change_app(clientSecret="another-secret").client_secret
    code = flow.pick()["code"]
    assert read_error(flow.redeem(code, client_secret=old)) == (401, "invalid_client", 7000215)
    assert flow.redeem(code, client_secret=new).status_code == 200
    local_azure.change_app(clientSecret=old)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": None}, (401, "invalid_client", 7000218)),
        ({"client_secret": "ä"}, (401, "invalid_client", 7000215)),
        ({"client_id": "00000000-0000-4000-8000-000000000000"}, (400, "unauthorized_client", 700016)),
        ({"client_id": None}, (400, "invalid_request", 900144)),
        (
            {"client_secret": None, "client_assertion": "garbage", "client_assertion_type": ASSERTION_TYPE},
            (401, "invalid_client", 50027),
        ),
        ({"client_secret": None, "client_assertion": "x"}, (401, "invalid_client", 900144)),
    ],
)
def test_wrong_proof_is_refused(
    flow: EntraFlow, changes: dict[str, str | None], error: tuple[int, str, int]
) -> None:
    assert read_error(flow.post_token(grant_type="client_credentials", scope="x", **changes)) == error


def make_assertion(local_azure: LocalAzure, key_path: Path, **changes: object) -> str:
    """Return an assertion signed with the key in a PEM file that holds the certificate too."""
    app = local_azure.get_app()
    pem = key_path.read_bytes()
    digest = load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
    now = int(time.time())
    claims: dict[str, object] = {
        "aud": f"{app.tls_origin}/organizations/oauth2/v2.0/token",
        "iss": app.client_id,
        "sub": app.client_id,
        "jti": str(uuid.uuid4()),
        "exp": now + 60,
    }
    return jwt.encode(
        claims | changes,
        load_pem_private_key(pem, None),  # type: ignore[arg-type]  # the file holds an RSA key
        algorithm="PS256",
        headers={"x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()},
    )


def post_assertion(flow: EntraFlow, assertion: str) -> requests.Response:
    return flow.post_token(
        grant_type="client_credentials",
        scope=f"{flow.azure.get_app().client_id}/.default",
        client_secret=None,
        client_assertion=assertion,
        client_assertion_type=ASSERTION_TYPE,
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "https://localhost/elsewhere"}, 700023),
        ({"exp": 1_000_000_000}, 700024),
        ({"sub": "someone-else"}, 700027),
    ],
)
def test_certificate_assertion_is_checked(
    local_azure: LocalAzure, flow: EntraFlow, changes: dict[str, object], code: int
) -> None:
    path = local_azure.get_app().certificate_path
    assert post_assertion(flow, make_assertion(local_azure, path)).status_code == 200
    wrong = post_assertion(flow, make_assertion(local_azure, path, **changes))
    assert read_error(wrong) == (401, "invalid_client", code)


def test_certificate_assertion_is_good_once(local_azure: LocalAzure, flow: EntraFlow) -> None:
    assertion = make_assertion(local_azure, local_azure.get_app().certificate_path)
    assert post_assertion(flow, assertion).status_code == 200
    assert read_error(post_assertion(flow, assertion)) == (401, "invalid_client", 700030)


def test_assertion_by_another_certificate_is_refused(
    local_azure: LocalAzure, flow: EntraFlow, tmp_path: Path
) -> None:
    other = SigningKey.generate("somebody else")
    path = tmp_path / "other.pem"
    path.write_text(other.private_pem + other.certificate_pem)
    answer = post_assertion(flow, make_assertion(local_azure, path))
    assert read_error(answer) == (401, "invalid_client", 700027)


def test_identity_token_for_another_audience_is_no_proof(
    flow: EntraFlow, identity: ManagedIdentityCredential
) -> None:
    token = identity.get_token("https://storage.azure.com/.default").token
    assert read_error(post_assertion(flow, token)) == (401, "invalid_client", 700212)
    exchange = identity.get_token(EXCHANGE_SCOPE).token
    assert post_assertion(flow, exchange).status_code == 200
    head, _, signature = exchange.rpartition(".")
    forged = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    assert read_error(post_assertion(flow, forged)) == (401, "invalid_client", 700211)


def test_token_of_a_person_is_no_proof(local_azure: LocalAzure, flow: EntraFlow) -> None:
    token, _ = local_azure.mint_tokens(username=ALICE, claims={"aud": "api://AzureADTokenExchange"})
    assert read_error(post_assertion(flow, token)) == (401, "invalid_client", 700213)


@pytest.mark.parametrize(
    "scope",
    [EXCHANGE_SCOPE, "https://communication.azure.com//.default", "https://storage.azure.com/.default"],
)
def test_managed_identity_gets_tokens(
    flow: EntraFlow, identity: ManagedIdentityCredential, scope: str
) -> None:
    token = identity.get_token(scope)
    claims = flow.verify(token.token, audience=scope.removesuffix("/.default"))
    assert claims["exp"] == token.expires_on
    assert claims["sub"] == claims["oid"]


def test_managed_identity_needs_header_and_client_id(
    local_azure: LocalAzure, identity: ManagedIdentityCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = ManagedIdentityCredential(client_id="00000000-0000-4000-8000-000000000000")
    system_assigned = ManagedIdentityCredential()
    for credential in (unknown, system_assigned):
        with pytest.raises(CredentialUnavailableError):
            credential.get_token(EXCHANGE_SCOPE)
    app = local_azure.get_app()
    answer = requests.get(
        app.identity_endpoint,
        params={"api-version": "2019-08-01", "resource": "x", "client_id": app.identity_client_id},
        headers={"X-IDENTITY-HEADER": "wrong"},
        timeout=CALL_SECONDS,
    )
    assert answer.status_code == 401
