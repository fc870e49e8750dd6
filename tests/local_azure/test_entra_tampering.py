"""Tokens made wrong on purpose: each kind is wrong in its own way, and only as often as asked."""

import time
from typing import Any

import jwt
import pytest

from tests.local_azure.flows import ADMIN, ALICE, EntraFlow
from tests.support.local_azure import CALL_SECONDS, LocalAzure, LocalAzureError

PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"


def read_unverified(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def is_signed(flow: EntraFlow, token: str) -> bool:
    """Tell whether a published key made the signature, whatever the claims say."""
    try:
        flow.verify(token, audience=str(read_unverified(token).get("aud")))
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
        return True
    except (jwt.InvalidTokenError, KeyError):
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "claim", "value"),
    [
        ("wrong-aud", "aud", "7ec97fd6-be68-4cac-9172-0c0ffee0f001"),
        ("wrong-iss", "iss", "https://login.attacker.example/v2.0"),
        ("personal-tenant", "tid", PERSONAL),
        ("wrong-nonce", "nonce", "not-the-nonce-that-was-asked-for"),
        ("no-nonce", "nonce", None),
        ("no-oid", "oid", None),
        ("malformed-tid", "tid", "not/a/guid"),
        ("v1", "ver", "1.0"),
        ("oversized-name", "name", "x" * (1 << 20)),
    ],
)
def test_claim_is_wrong_and_signature_good(
    local_azure: LocalAzure, flow: EntraFlow, kind: str, claim: str, value: str | None
) -> None:
    local_azure.tamper(kind)
    token = flow.sign_in()["id_token"]
    assert read_unverified(token).get(claim) == value
    assert is_signed(flow, token)
    # The next one is right again.
    assert flow.verify(flow.sign_in()["id_token"]).get(claim) != value


def test_tenant_of_another_and_malformed_oid(local_azure: LocalAzure, flow: EntraFlow) -> None:
    local_azure.tamper("wrong-tid")
    claims = read_unverified(flow.sign_in()["id_token"])
    assert claims["tid"] not in claims["iss"]
    local_azure.tamper("malformed-oid")
    assert "'" in read_unverified(flow.sign_in()["id_token"])["oid"]


def test_times_are_wrong(local_azure: LocalAzure, flow: EntraFlow) -> None:
    local_azure.tamper("expired")
    assert read_unverified(flow.sign_in()["id_token"])["exp"] < time.time()
    local_azure.tamper("not-yet-valid")
    assert read_unverified(flow.sign_in()["id_token"])["nbf"] > time.time()


@pytest.mark.parametrize(
    "kind", ["unknown-kid", "bad-signature", "alg-none", "hs256-with-public-key", "embedded-jwk", "jku"]
)
def test_signature_is_wrong_and_claims_good(local_azure: LocalAzure, flow: EntraFlow, kind: str) -> None:
    local_azure.tamper(kind)
    token = flow.sign_in()["id_token"]
    assert read_unverified(token)["oid"] == local_azure.get_account(ALICE).object_id
    assert not is_signed(flow, token)


def test_traps_are_real(local_azure: LocalAzure, flow: EntraFlow) -> None:
    """A verifier that trusted `jku` or `jwk` would find a key there that fits."""
    for kind in ("jku", "embedded-jwk"):
        local_azure.tamper(kind)
        token = flow.sign_in()["id_token"]
        header = jwt.get_unverified_header(token)
        if kind == "jku":
            [key] = flow.browser.get(header["jku"], timeout=CALL_SECONDS).json()["keys"]
        else:
            key = header["jwk"]
        audience = local_azure.get_app().client_id
        assert jwt.decode(token, jwt.PyJWK.from_dict(key), algorithms=["RS256"], audience=audience)


def test_garbage_is_no_token(local_azure: LocalAzure, flow: EntraFlow) -> None:
    local_azure.tamper("garbage")
    with pytest.raises(jwt.DecodeError):
        read_unverified(flow.sign_in()["id_token"])


def test_claims_are_overridden_and_removed(local_azure: LocalAzure, flow: EntraFlow) -> None:
    local_azure.tamper("claims", claims={"name": "Eve", "sid": None}, times=2)
    for _ in range(2):
        claims = flow.verify(flow.sign_in()["id_token"])
        assert claims["name"] == "Eve"
        assert "sid" not in claims
    assert flow.verify(flow.sign_in()["id_token"])["name"] == "Alice Example"


def test_access_tokens_are_tampered_apart(local_azure: LocalAzure, flow: EntraFlow) -> None:
    local_azure.tamper("no-oid", of="access")
    body = flow.sign_in(scope=f"openid {local_azure.get_app().client_id}/access_as_user")
    assert "oid" in read_unverified(body["id_token"])
    assert "oid" not in read_unverified(body["access_token"])


def test_unknown_kind_is_refused(local_azure: LocalAzure) -> None:
    with pytest.raises(LocalAzureError, match="kind must be one of"):
        local_azure.tamper("nonsense")


def test_tokens_are_minted_without_a_browser(local_azure: LocalAzure, flow: EntraFlow) -> None:
    app = local_azure.get_app()
    access, identity = local_azure.mint_tokens(
        username=ADMIN, clientId=app.spa_client_id, lifetimeSeconds=120
    )
    claims = flow.verify(access)
    assert (claims["azp"], claims["scp"]) == (app.spa_client_id, "access_as_user")
    assert 60 < int(str(claims["exp"])) - time.time() <= 120
    assert identity is not None
    assert flow.verify(identity, audience=app.spa_client_id)["roles"] == claims["roles"]
    app_only, nothing = local_azure.mint_tokens(app=True, claims={"roles": None})
    assert nothing is None
    assert "roles" not in flow.verify(app_only)
    tampered, _ = local_azure.mint_tokens(username=ADMIN, tamper="alg-none")
    assert jwt.get_unverified_header(tampered)["alg"] == "none"
    teams, _ = local_azure.mint_tokens(username=ADMIN, scope="teams")
    assert read_unverified(teams)["scp"] == "Teams.ManageCalls Teams.ManageChats"


def test_minting_for_nobody_is_refused(local_azure: LocalAzure) -> None:
    with pytest.raises(LocalAzureError, match="username"):
        local_azure.mint_tokens(username="nobody@contoso.example")
