"""The discovery document and the keys."""

import jwt
import pytest

from tests.local_azure.flows import ALICE, EntraFlow
from tests.support.local_azure import CALL_SECONDS, LocalAzure


@pytest.mark.parametrize("tenant", ["organizations", "common"])
def test_shared_endpoints_have_an_issuer_template(
    local_azure: LocalAzure, flow: EntraFlow, tenant: str
) -> None:
    origin = local_azure.get_app().tls_origin
    document = flow.browser.get(
        f"{origin}/{tenant}/v2.0/.well-known/openid-configuration", timeout=CALL_SECONDS
    ).json()
    assert document["issuer"] == f"{origin}/{{tenantid}}/v2.0"
    assert document["token_endpoint"].startswith("https://localhost:")
    assert document["authorization_endpoint"].startswith("http://localhost:")
    assert document["end_session_endpoint"].startswith("http://localhost:")
    assert document["frontchannel_logout_supported"] is True
    keys = flow.browser.get(document["jwks_uri"], timeout=CALL_SECONDS).json()["keys"]
    assert {key["issuer"] for key in keys} == {document["issuer"]}


def test_tenant_endpoint_has_its_own_issuer(local_azure: LocalAzure, flow: EntraFlow) -> None:
    origin, tenant = local_azure.get_app().tls_origin, local_azure.get_account(ALICE).tenant_id
    document = flow.browser.get(
        f"{origin}/{tenant}/v2.0/.well-known/openid-configuration", timeout=CALL_SECONDS
    ).json()
    assert document["issuer"] == f"{origin}/{tenant}/v2.0"
    [key] = flow.browser.get(document["jwks_uri"], timeout=CALL_SECONDS).json()["keys"]
    assert key["issuer"] == document["issuer"]
    assert key["kid"] == key["x5t"]
    assert key["kty"] == "RSA"
    assert key["use"] == "sig"


def test_unknown_tenant_is_refused(local_azure: LocalAzure, flow: EntraFlow) -> None:
    url = f"{local_azure.get_app().tls_origin}/nobody/v2.0/.well-known/openid-configuration"
    answer = flow.browser.get(url, timeout=CALL_SECONDS)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_tenant")


def test_rotated_key_signs_and_old_key_stays_published(local_azure: LocalAzure, flow: EntraFlow) -> None:
    before = flow.sign_in()["id_token"]
    local_azure.rotate_keys(keep_old=True)
    after = flow.sign_in()["id_token"]
    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]
    assert flow.verify(before)["oid"] == flow.verify(after)["oid"]


def test_forgotten_key_is_no_longer_published(local_azure: LocalAzure, flow: EntraFlow) -> None:
    before = flow.sign_in()["id_token"]
    local_azure.rotate_keys(keep_old=False)
    with pytest.raises(KeyError):
        flow.verify(before)
    assert flow.verify(flow.sign_in()["id_token"])
