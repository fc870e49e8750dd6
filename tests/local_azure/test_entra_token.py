"""The token endpoint: codes, refresh tokens, app-only tokens, and what the tokens hold."""

import base64
import json
import threading
import uuid

import jwt
import pytest
import requests

from tests.local_azure.flows import ADMIN, ALICE, CALLBACK, GUEST, VERIFIER, EntraFlow, read_error, read_query
from tests.support.local_azure import CALL_SECONDS, LocalAzure

TEAMS = "https://auth.msft.communication.azure.com"


def test_id_token_has_the_claims_of_the_real_one(local_azure: LocalAzure, flow: EntraFlow) -> None:
    account = local_azure.get_account(ALICE)
    claims = flow.verify(flow.sign_in()["id_token"])
    assert claims["iss"] == f"{local_azure.get_app().tls_origin}/{account.tenant_id}/v2.0"
    assert (claims["tid"], claims["oid"]) == (account.tenant_id, account.object_id)
    assert (claims["name"], claims["preferred_username"]) == (account.name, ALICE)
    assert (claims["nonce"], claims["ver"]) == ("the-nonce", "2.0")
    assert {"sid", "sub", "uti", "iat", "nbf", "exp", "login_hint"} <= set(claims)
    assert "roles" not in claims


def test_roles_stand_in_the_token_of_an_admin(flow: EntraFlow) -> None:
    assert flow.verify(flow.sign_in(ADMIN)["id_token"])["roles"] == ["TrustedService.Admin"]


def test_guest_signs_in_with_their_own_tenant(local_azure: LocalAzure, flow: EntraFlow) -> None:
    claims = flow.verify(flow.sign_in(GUEST)["id_token"])
    assert (
        claims["tid"] == local_azure.get_account(GUEST).tenant_id != local_azure.get_account(ALICE).tenant_id
    )


def test_subject_is_pairwise(local_azure: LocalAzure, flow: EntraFlow) -> None:
    spa_client = local_azure.get_app().spa_client_id
    _, own = local_azure.mint_tokens(username=ALICE)
    _, other = local_azure.mint_tokens(username=ALICE, clientId=spa_client)
    assert own is not None
    assert other is not None
    assert flow.verify(own)["sub"] != flow.verify(other, audience=spa_client)["sub"]


def test_client_info_tells_the_account(local_azure: LocalAzure, flow: EntraFlow) -> None:
    body = flow.redeem(flow.pick()["code"], client_info="1").json()
    account = local_azure.get_account(ALICE)
    info = json.loads(base64.urlsafe_b64decode(body["client_info"] + "=="))
    assert info == {"uid": account.object_id, "utid": account.tenant_id}
    assert "client_info" not in flow.sign_in()


def test_code_is_good_once(flow: EntraFlow) -> None:
    code = flow.pick()["code"]
    assert flow.redeem(code).status_code == 200
    assert read_error(flow.redeem(code)) == (400, "invalid_grant", 54005)


def test_code_is_good_once_under_parallel_uses(local_azure: LocalAzure, flow: EntraFlow) -> None:
    code = flow.pick()["code"]
    statuses: list[int] = []
    start = threading.Barrier(8)

    def redeem() -> None:
        with local_azure.make_session() as session:
            own_flow = EntraFlow(local_azure, session)
            start.wait()
            statuses.append(own_flow.redeem(code).status_code)

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [400] * 7


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"code_verifier": "x" * 43}, 501481),
        ({"code_verifier": None}, 501481),
        ({"code_verifier": "ä"}, 501481),
        ({"redirect_uri": "http://localhost:8001/auth/callback"}, 500112),
        ({"code": "unknown"}, 70008),
    ],
)
def test_code_is_bound_to_its_request(flow: EntraFlow, changes: dict[str, str | None], code: int) -> None:
    picked = flow.pick()["code"]
    answer = flow.redeem(changes.pop("code", None) or picked, **changes)
    assert read_error(answer) == (400, "invalid_grant", code)


def test_code_is_bound_to_its_client(local_azure: LocalAzure, flow: EntraFlow) -> None:
    answer = flow.redeem(
        flow.pick()["code"], client_id=local_azure.get_app().spa_client_id, client_secret=None
    )
    assert read_error(answer) == (400, "invalid_grant", 70000)


def test_plain_challenge_and_no_challenge_are_taken(flow: EntraFlow) -> None:
    plain = flow.pick(code_challenge=VERIFIER, code_challenge_method="plain")["code"]
    assert flow.redeem(plain).status_code == 200
    none = flow.pick(code_challenge=None, code_challenge_method=None)["code"]
    assert flow.redeem(none, code_verifier=None).status_code == 200
    unasked = flow.pick(code_challenge=None, code_challenge_method=None)["code"]
    assert flow.redeem(unasked).json()["error_codes"] == [501481]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": None}, (400, "invalid_request", 900144)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
        ({"code": None}, (400, "invalid_request", 900144)),
        ({"scope": "api://other/x"}, (400, "invalid_scope", 70011)),
    ],
)
def test_malformed_request_is_refused(
    flow: EntraFlow, changes: dict[str, str | None], error: tuple[int, str, int]
) -> None:
    parameters: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "code": flow.pick()["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    answer = flow.post_token(**{**parameters, **changes})
    assert read_error(answer) == error
    assert {"timestamp", "trace_id", "correlation_id", "error_description"} <= set(answer.json())


def test_refresh_token_rotates(flow: EntraFlow) -> None:
    first = flow.sign_in(scope="openid profile offline_access")
    answer = flow.post_token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    second = answer.json()
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


def test_no_refresh_token_unless_asked_for(flow: EntraFlow) -> None:
    assert "refresh_token" not in flow.sign_in()


@pytest.mark.parametrize("prefix", ["api://{}/access_as_user", "{}/access_as_user", "api://{}/.default"])
def test_access_token_for_the_api(local_azure: LocalAzure, flow: EntraFlow, prefix: str) -> None:
    client_id = local_azure.get_app().client_id
    body = flow.sign_in(ADMIN, scope=f"openid {prefix.format(client_id)}")
    claims = flow.verify(body["access_token"])
    assert (claims["scp"], claims["azp"], claims["azpacr"]) == ("access_as_user", client_id, "1")
    assert claims["ver"] == "2.0"
    assert claims["oid"] == local_azure.get_account(ADMIN).object_id
    assert claims["roles"] == ["TrustedService.Admin"]
    assert claims["sid"] == flow.verify(body["id_token"])["sid"]


def test_access_token_without_api_scope_is_opaque(flow: EntraFlow) -> None:
    with pytest.raises(jwt.DecodeError):
        jwt.get_unverified_header(flow.sign_in()["access_token"])


def test_teams_scoped_token(local_azure: LocalAzure, flow: EntraFlow) -> None:
    scope = f"openid {TEAMS}/Teams.ManageCalls {TEAMS}/Teams.ManageChats"
    claims = flow.verify(flow.sign_in(scope=scope)["access_token"], audience=TEAMS)
    assert claims["scp"] == "Teams.ManageCalls Teams.ManageChats"
    assert (claims["ver"], claims["iss"]) == ("1.0", f"https://sts.windows.net/{claims['tid']}/")
    assert claims["appid"] == local_azure.get_app().client_id
    assert claims["oid"] == local_azure.get_account(ALICE).object_id


def test_two_resources_at_once_are_refused(local_azure: LocalAzure, flow: EntraFlow) -> None:
    scope = f"openid {TEAMS}/Teams.ManageCalls {local_azure.get_app().client_id}/access_as_user"
    assert read_query(flow.open_page(scope=scope).headers["Location"])["error"] == "invalid_scope"


@pytest.mark.parametrize("prefix", ["", "api://"])
def test_client_credentials_give_an_app_only_token(
    local_azure: LocalAzure, flow: EntraFlow, prefix: str
) -> None:
    client_id = local_azure.get_app().client_id
    answer = flow.post_token(grant_type="client_credentials", scope=f"{prefix}{client_id}/.default")
    claims = flow.verify(answer.json()["access_token"])
    assert claims["roles"] == ["TrustedService.Admin"]
    assert (claims["azp"], claims["idtyp"], claims["ver"]) == (client_id, "app", "2.0")
    assert claims["oid"] == claims["sub"] == str(uuid.UUID(str(claims["oid"])))
    assert not {"scp", "name", "preferred_username"} & set(claims)
    assert "id_token" not in answer.json()


def test_client_credentials_want_a_default_scope(local_azure: LocalAzure, flow: EntraFlow) -> None:
    scope = f"{local_azure.get_app().client_id}/access_as_user"
    answer = flow.post_token(grant_type="client_credentials", scope=scope)
    assert read_error(answer) == (400, "invalid_scope", 1002012)


def test_deleted_account_gets_no_more_tokens(local_azure: LocalAzure, flow: EntraFlow) -> None:
    account = local_azure.put_account("dave@contoso.example")
    body = flow.sign_in(account.username, scope="openid offline_access")
    local_azure.delete_account(account.username)
    answer = flow.post_token(grant_type="refresh_token", refresh_token=body["refresh_token"])
    assert read_error(answer) == (400, "invalid_grant", 50034)


def test_single_page_app_signs_in_without_secret(local_azure: LocalAzure, browser: requests.Session) -> None:
    app, origin = local_azure.get_app(), "http://localhost:3000"
    flow = EntraFlow(local_azure, browser)
    redirect_uri = f"{origin}/spa/"
    scope = f"openid offline_access api://{app.client_id}/access_as_user"
    code = flow.pick(client_id=app.spa_client_id, redirect_uri=redirect_uri, scope=scope)["code"]
    browser.headers["Origin"] = origin
    answer = flow.redeem(code, client_id=app.spa_client_id, client_secret=None, redirect_uri=redirect_uri)
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    claims = flow.verify(answer.json()["access_token"])
    assert (claims["azp"], claims["azpacr"]) == (app.spa_client_id, "0")
    assert answer.json()["refresh_token"]


def test_single_page_app_must_use_pkce(local_azure: LocalAzure, flow: EntraFlow) -> None:
    answer = flow.open_page(
        client_id=local_azure.get_app().spa_client_id,
        redirect_uri="http://localhost/",
        code_challenge=None,
        code_challenge_method=None,
    )
    assert "AADSTS9002325" in read_query(answer.headers["Location"])["error_description"]


def test_other_sites_may_not_call(local_azure: LocalAzure, flow: EntraFlow) -> None:
    for origin, allowed in (("http://localhost:3000", True), ("https://attacker.example", False)):
        answer = flow.browser.options(flow.token_url, headers={"Origin": origin}, timeout=CALL_SECONDS)
        assert ("Access-Control-Allow-Origin" in answer.headers) is allowed
