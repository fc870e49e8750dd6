"""The discovery document and the keys."""

import pytest

from local_azure.entra.accounts import CONTOSO
from tests.local_azure.flows import EntraFlow
from tests.support.local_azure import CALL_SECONDS

DISCOVERY = "/v2.0/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("tenant", "named"), [("organizations", "{tenantid}"), ("common", "{tenantid}"), (CONTOSO, CONTOSO)]
)
def test_document_and_keys_name_the_issuer(flow: EntraFlow, tenant: str, named: str) -> None:
    origin = flow.azure.get_app().tls_origin
    document = flow.browser.get(f"{origin}/{tenant}{DISCOVERY}", timeout=CALL_SECONDS).json()
    assert document["issuer"] == f"{origin}/{named}/v2.0"
    assert document["token_endpoint"].startswith("https://localhost:")
    assert document["authorization_endpoint"].startswith("http://localhost:")
    assert document["end_session_endpoint"].startswith("http://localhost:")
    assert document["frontchannel_logout_supported"] is True
    [key] = flow.browser.get(document["jwks_uri"], timeout=CALL_SECONDS).json()["keys"]
    assert key["issuer"] == document["issuer"]
    assert key["kid"] == key["x5t"]
    assert (key["kty"], key["use"]) == ("RSA", "sig")
