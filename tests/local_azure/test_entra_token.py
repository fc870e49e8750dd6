"""The token endpoint: codes, refresh tokens, app-only tokens, and the claims of each."""

import base64
import json
import threading
import uuid

import jwt
import pytest

from local_azure.entra.registration import SPA_CLIENT_ID
from tests.local_azure.flows import ADMIN, ALICE, GUEST, VERIFIER, EntraFlow, read_error, read_query
from tests.support.concurrency import run_concurrently
from tests.support.local_azure import CALL_SECONDS

TEAMS = "https://auth.msft.communication.azure.com"


def test_id_token_has_the_real_claims(flow: EntraFlow) -> None:
    account = flow.azure.get_account(ALICE)
    claims = flow.verify(flow.sign_in()["id_token"])
    assert claims["iss"] == f"{flow.azure.get_app().tls_origin}/{account.tenant_id}/v2.0"
    assert (claims["tid"], claims["oid"]) == (account.tenant_id, account.object_id)
    assert (claims["name"], claims["preferred_username"]) == (account.name, ALICE)
    assert (claims["nonce"], claims["ver"]) == ("the-nonce", "2.0")
    assert {"sid", "sub", "uti", "iat", "nbf", "exp", "login_hint"} <= set(claims)
    assert "roles" not in claims
    assert flow.verify(flow.sign_in(ADMIN)["id_token"])["roles"] == ["TrustedService.Admin"]
    # A guest signs in with their own tenant.
    guest_tenant = flow.verify(flow.sign_in(GUEST)["id_token"])["tid"]
    assert guest_tenant == flow.azure.get_account(GUEST).tenant_id != account.tenant_id


def test_subject_is_pairwise(flow: EntraFlow) -> None:
    _, own = flow.azure.mint_tokens(username=ALICE)
    _, other = flow.azure.mint_tokens(username=ALICE, clientId=SPA_CLIENT_ID)
    assert own
    assert other
    assert flow.verify(own)["sub"] != flow.verify(other, audience=SPA_CLIENT_ID)["sub"]


def test_client_info_identifies_the_account(flow: EntraFlow) -> None:
    body = flow.redeem(flow.pick()["code"], client_info="1").json()
    account = flow.azure.get_account(ALICE)
    info = json.loads(base64.urlsafe_b64decode(body["client_info"] + "=="))
    assert info == {"uid": account.object_id, "utid": account.tenant_id}
    assert not {"client_info", "refresh_token"} & set(flow.sign_in())  # unless requested


def test_code_is_accepted_once_from_concurrent_requests(flow: EntraFlow) -> None:
    code = flow.pick()["code"]
    start = threading.Barrier(8)

    def redeem() -> int:
        with flow.azure.make_session() as session:
            own_flow = EntraFlow(flow.azure, session)
            start.wait()
            return own_flow.redeem(code).status_code

    assert sorted(run_concurrently([redeem] * 8)) == [200] + [400] * 7
    assert read_error(flow.redeem(code)) == (400, "invalid_grant", 54005)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "x" * 43}, (400, "invalid_grant", 501481)),
        ({"code_verifier": None}, (400, "invalid_grant", 501481)),
        ({"code_verifier": "ä"}, (400, "invalid_grant", 501481)),
        ({"redirect_uri": "http://localhost:8001/auth/callback"}, (400, "invalid_grant", 500112)),
        ({"client_id": SPA_CLIENT_ID, "client_secret": None}, (400, "invalid_grant", 70000)),
        ({"code": "unknown"}, (400, "invalid_grant", 70008)),
        ({"code": None}, (400, "invalid_request", 900144)),
        ({"grant_type": None}, (400, "invalid_request", 900144)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
        ({"scope": "api://other/x"}, (400, "invalid_scope", 70011)),
    ],
)
def test_code_is_bound_to_its_request(flow: EntraFlow, changes: dict[str, str | None], error: object) -> None:
    response = flow.redeem(**{"code": flow.pick()["code"], **changes})
    assert read_error(response) == error
    assert {"timestamp", "trace_id", "correlation_id", "error_description"} <= set(response.json())


def test_plain_challenge_and_no_challenge_are_accepted(flow: EntraFlow) -> None:
    plain = flow.pick(code_challenge=VERIFIER, code_challenge_method="plain")["code"]
    assert flow.redeem(plain).status_code == 200
    none = flow.pick(code_challenge=None, code_challenge_method=None)["code"]
    assert flow.redeem(none, code_verifier=None).status_code == 200
    unchallenged = flow.pick(code_challenge=None, code_challenge_method=None)["code"]
    assert flow.redeem(unchallenged).json()["error_codes"] == [501481]


def test_refresh_token_rotates(flow: EntraFlow) -> None:
    first = flow.sign_in(scope="openid profile offline_access")
    response = flow.post_token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    second = response.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert "nonce" not in flow.verify(second["id_token"])
    again = flow.post_token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert read_error(again) == (400, "invalid_grant", 70000)
    third = flow.post_token(
        grant_type="refresh_token",
        refresh_token=second["refresh_token"],
        scope=f"{flow.azure.get_app().client_id}/access_as_user",
    )
    assert flow.verify(third.json()["access_token"])["scp"] == "access_as_user"
    assert "refresh_token" in third.json()


@pytest.mark.parametrize("prefix", ["api://{}/access_as_user", "{}/access_as_user", "api://{}/.default"])
def test_access_token_for_the_api_is_readable(flow: EntraFlow, prefix: str) -> None:
    client_id = flow.azure.get_app().client_id
    body = flow.sign_in(ADMIN, scope=f"openid {prefix.format(client_id)}")
    claims = flow.verify(body["access_token"])
    assert (claims["scp"], claims["azp"], claims["azpacr"]) == ("access_as_user", client_id, "1")
    assert claims["ver"] == "2.0"
    assert claims["oid"] == flow.azure.get_account(ADMIN).object_id
    assert claims["roles"] == ["TrustedService.Admin"]
    assert claims["sid"] == flow.verify(body["id_token"])["sid"]


def test_access_token_without_api_scope_is_opaque(flow: EntraFlow) -> None:
    with pytest.raises(jwt.DecodeError):
        jwt.get_unverified_header(flow.sign_in()["access_token"])


def test_teams_token_has_version_1_claims(flow: EntraFlow) -> None:
    scope = f"openid {TEAMS}/Teams.ManageCalls {TEAMS}/Teams.ManageChats"
    claims = flow.verify(flow.sign_in(scope=scope)["access_token"], audience=TEAMS)
    assert claims["scp"] == "Teams.ManageCalls Teams.ManageChats"
    assert (claims["ver"], claims["iss"]) == ("1.0", f"https://sts.windows.net/{claims['tid']}/")
    assert claims["appid"] == flow.azure.get_app().client_id
    assert claims["oid"] == flow.azure.get_account(ALICE).object_id
    two_resources = f"openid {TEAMS}/Teams.ManageCalls {flow.azure.get_app().client_id}/access_as_user"
    assert read_query(flow.open_page(scope=two_resources).headers["Location"])["error"] == "invalid_scope"


@pytest.mark.parametrize("prefix", ["", "api://"])
def test_client_credentials_give_an_app_only_token(flow: EntraFlow, prefix: str) -> None:
    client_id = flow.azure.get_app().client_id
    response = flow.post_token(grant_type="client_credentials", scope=f"{prefix}{client_id}/.default")
    claims = flow.verify(response.json()["access_token"])
    assert claims["roles"] == ["TrustedService.Admin"]
    assert (claims["azp"], claims["idtyp"], claims["ver"]) == (client_id, "app", "2.0")
    assert claims["oid"] == claims["sub"] == str(uuid.UUID(str(claims["oid"])))
    assert not {"scp", "name", "preferred_username"} & set(claims)
    assert "id_token" not in response.json()
    delegated = flow.post_token(grant_type="client_credentials", scope=f"{client_id}/access_as_user")
    assert read_error(delegated) == (400, "invalid_scope", 1002012)


def test_deleted_account_gets_no_more_tokens(flow: EntraFlow) -> None:
    account = flow.azure.put_account("dave@contoso.example")
    body = flow.sign_in(account.username, scope="openid offline_access")
    flow.azure.delete_account(account.username)
    response = flow.post_token(grant_type="refresh_token", refresh_token=body["refresh_token"])
    assert read_error(response) == (400, "invalid_grant", 50034)


def test_single_page_app_must_use_pkce(flow: EntraFlow) -> None:
    spa = {"client_id": SPA_CLIENT_ID, "redirect_uri": "http://localhost/"}
    response = flow.open_page(**spa, code_challenge=None, code_challenge_method=None)
    assert "AADSTS9002325" in read_query(response.headers["Location"])["error_description"]


def test_cors_allows_loopback_origins_only(flow: EntraFlow) -> None:
    for origin, allowed in (("http://localhost:3000", True), ("https://attacker.example", False)):
        response = flow.browser.options(flow.token_url, headers={"Origin": origin}, timeout=CALL_SECONDS)
        assert ("Access-Control-Allow-Origin" in response.headers) is allowed
