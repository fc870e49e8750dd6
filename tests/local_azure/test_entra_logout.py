"""The end-session endpoint."""

from urllib.parse import urlencode

import pytest
import requests
from bs4 import BeautifulSoup

from tests.local_azure.flows import ALICE, BOB, EntraFlow, read_query
from tests.support.local_azure import CALL_SECONDS

AFTER = "http://localhost:8000/"
FRONT_CHANNEL = "http://localhost:8000/auth/front-channel-logout"


def sign_out(flow: EntraFlow, **parameters: str) -> requests.Response:
    url = f"{flow.azure.get_app().page_origin}/organizations/oauth2/v2.0/logout?{urlencode(parameters)}"
    return flow.browser.get(url, allow_redirects=False, timeout=CALL_SECONDS)


def has_session(flow: EntraFlow, account: str) -> bool:
    return "code" in read_query(flow.open_page(prompt="none", login_hint=account).headers["Location"])


def test_sign_out_ends_all_sessions_of_the_browser(flow: EntraFlow) -> None:
    flow.pick(ALICE)
    flow.pick(BOB)
    response = sign_out(flow, post_logout_redirect_uri=AFTER, state="x")
    assert (response.status_code, response.headers["Location"]) == (302, f"{AFTER}?state=x")
    assert not has_session(flow, ALICE)
    assert not has_session(flow, BOB)


@pytest.mark.parametrize("hint", ["logout_hint", "id_token_hint"])
def test_hint_ends_one_session(flow: EntraFlow, hint: str) -> None:
    token = flow.sign_in(ALICE)["id_token"]
    flow.pick(BOB)
    value = token if hint == "id_token_hint" else str(flow.verify(token)["login_hint"])
    sign_out(flow, **{hint: value})
    assert not has_session(flow, ALICE)
    assert has_session(flow, BOB)


@pytest.mark.parametrize(
    "uri", ["", "https://attacker.example/", "//attacker.example", "https://localhost:8000/x"]
)
def test_unregistered_target_gets_no_redirect(flow: EntraFlow, uri: str) -> None:
    flow.pick(ALICE)
    response = sign_out(flow, post_logout_redirect_uri=uri)
    assert response.status_code == 200
    assert "attacker" not in response.text
    assert not has_session(flow, ALICE)


def test_front_channel_calls_apps_of_the_session(flow: EntraFlow) -> None:
    flow.azure.change_app(frontChannelLogoutUrl=FRONT_CHANNEL)
    claims = flow.verify(flow.sign_in(ALICE)["id_token"])
    page = BeautifulSoup(sign_out(flow, post_logout_redirect_uri=AFTER).text, "html.parser")
    [frame] = page.select("iframe")
    assert str(frame["src"]).startswith(f"{FRONT_CHANNEL}?")
    assert read_query(str(frame["src"])) == {"sid": claims["sid"], "iss": claims["iss"]}
    [refresh] = page.select("meta[http-equiv=refresh]")
    assert str(refresh["content"]).endswith(f"url={AFTER}")
    flow.pick(ALICE, client_id=flow.azure.get_app().spa_client_id, redirect_uri="http://localhost/")
    assert sign_out(flow, post_logout_redirect_uri=AFTER).status_code == 302
    flow.azure.change_app(frontChannelLogoutUrl=None)
