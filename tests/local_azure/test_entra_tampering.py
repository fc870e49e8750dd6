"""Tampered tokens; tests/entra/test_token_checks.py covers how the service handles each kind."""

import time

import jwt

from tests.local_azure.flows import ADMIN, EntraFlow
from tests.support.local_azure import CALL_SECONDS


def test_forged_headers_lead_to_matching_keys(flow: EntraFlow) -> None:
    """A verifier that trusted `jku` or `jwk` would find a matching key there."""
    for kind in ("jku", "embedded-jwk"):
        flow.azure.tamper(kind)
        token = flow.sign_in()["id_token"]
        header = jwt.get_unverified_header(token)
        if kind == "jku":
            [header["jwk"]] = flow.browser.get(header["jku"], timeout=CALL_SECONDS).json()["keys"]
        key, audience = jwt.PyJWK.from_dict(header["jwk"]), flow.azure.get_app().client_id
        assert jwt.decode(token, key, algorithms=["RS256"], audience=audience)


def test_claims_are_overridden_and_removed(flow: EntraFlow) -> None:
    flow.azure.tamper("claims", claims={"name": "Eve", "sid": None}, times=2)
    for _ in range(2):
        claims = flow.verify(flow.sign_in()["id_token"])
        assert claims["name"] == "Eve"
        assert "sid" not in claims
    assert flow.verify(flow.sign_in()["id_token"])["name"] == "Alice Example"


def test_access_tokens_are_tampered_with_separately(flow: EntraFlow) -> None:
    flow.azure.tamper("no-oid", of="access")
    body = flow.sign_in(scope=f"openid {flow.azure.get_app().client_id}/access_as_user")
    assert "oid" in flow.verify(body["id_token"])
    assert "oid" not in flow.verify(body["access_token"])


def test_tokens_are_minted_without_a_browser(flow: EntraFlow) -> None:
    app = flow.azure.get_app()
    access, identity = flow.azure.mint_tokens(username=ADMIN, clientId=app.spa_client_id, lifetimeSeconds=120)
    claims = flow.verify(access)
    assert (claims["azp"], claims["scp"]) == (app.spa_client_id, "access_as_user")
    assert 60 < int(str(claims["exp"])) - time.time() <= 120
    assert identity is not None
    assert flow.verify(identity, audience=app.spa_client_id)["roles"] == claims["roles"]
    app_only, nothing = flow.azure.mint_tokens(app=True, claims={"roles": None})
    assert nothing is None
    assert "roles" not in flow.verify(app_only)
