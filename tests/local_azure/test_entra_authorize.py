"""The authorization endpoint and its account picker."""

from urllib.parse import urljoin, urlsplit

import pytest
import requests
from bs4 import BeautifulSoup

from tests.local_azure.flows import ADMIN, ALICE, BOB, CALLBACK, GUEST, EntraFlow, read_query
from tests.support.local_azure import CALL_SECONDS, LocalAzure, LocalAzureError


def test_picker_offers_every_account(flow: EntraFlow) -> None:
    response = flow.open_page()
    page = BeautifulSoup(response.text, "html.parser")
    picks = {pick["value"]: pick.get_text(" ", strip=True) for pick in page.select("[name=account]")}
    assert {ALICE, BOB, ADMIN, GUEST} <= set(picks)
    assert picks[ALICE] == f"Alice Example {ALICE}"
    assert page.html is not None
    assert page.html["lang"] == "en"
    assert page.select_one("h1") is not None
    assert page.select_one("meta[name=viewport]") is not None
    assert not page.select("script")
    [link] = page.select("link[rel=stylesheet]")
    url = urljoin(response.url, str(link["href"]))
    assert flow.browser.get(url, timeout=CALL_SECONDS).status_code == 200


def test_disabled_account_cannot_sign_in(flow: EntraFlow) -> None:
    account = flow.azure.put_account("carol@contoso.example", name="Carol", enabled=True)
    code = flow.pick(account.username)["code"]
    flow.azure.put_account(account.username, objectId=account.object_id, enabled=False)
    assert account.username not in flow.open_page().text
    response = flow.redeem(code)
    assert (response.status_code, response.json()["error_codes"]) == (400, [50057])
    flow.azure.delete_account(account.username)


def test_markup_in_parameters_is_shown_as_text(flow: EntraFlow) -> None:
    page = flow.open_page(state='"><script>alert(1)</script>').text
    assert "<script>" not in page
    assert flow.pick(state='"><b>')["state"] == '"><b>'


@pytest.mark.parametrize(
    "redirect_uri",
    [
        *(CALLBACK, "http://localhost:1/", "https://localhost/auth/callback", "https://app.example/callback"),
        "http://127.0.0.1:9999/auth/callback",
    ],
)
def test_registered_redirect_uri_is_accepted(flow: EntraFlow, redirect_uri: str) -> None:
    location = flow.azure.sign_in(flow.browser, flow.make_authorize_url(redirect_uri=redirect_uri), ALICE)
    assert location.startswith(f"{redirect_uri}?code=")


@pytest.mark.parametrize(
    "redirect_uri",
    [
        *(None, "", "https://attacker.example/auth/callback", "javascript:alert(1)"),
        *("http://localhost.attacker.example/auth/callback", "http://user@localhost/auth/callback"),
        *("http://localhost/auth/callback/", "http://localhost/auth/callback?more=1"),
        *("http://localhost/auth/callback#fragment", "http://localhost:port/auth/callback"),
        "https://app.example:444/callback",
    ],
)
def test_unregistered_redirect_uri_shows_an_error_page(flow: EntraFlow, redirect_uri: str | None) -> None:
    response = flow.open_page(redirect_uri=redirect_uri)
    assert response.status_code == 400
    assert "Location" not in response.headers
    assert "AADSTS50011" in response.text


def test_unknown_client_shows_an_error_page(flow: EntraFlow) -> None:
    response = flow.open_page(client_id="00000000-0000-4000-8000-000000000000")
    assert (response.status_code, "AADSTS700016" in response.text) == (400, True)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "smoke"}, "invalid_request"),
        ({"scope": None}, "invalid_request"),
        ({"scope": "openid api://unknown/scope"}, "invalid_scope"),
        ({"prompt": "sometimes"}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
    ],
)
def test_invalid_parameter_is_reported_to_the_app(
    flow: EntraFlow, changes: dict[str, str | None], error: str
) -> None:
    response = flow.open_page(**changes)
    parameters = read_query(response.headers["Location"])
    assert (response.status_code, parameters["error"], parameters["state"]) == (302, error, "the-state")
    assert "AADSTS" in parameters["error_description"]


def test_account_of_another_tenant_is_refused(local_azure: LocalAzure, browser: requests.Session) -> None:
    flow = EntraFlow(local_azure, browser, tenant=local_azure.get_account(ALICE).tenant_id)
    assert flow.pick(ALICE)["code"]
    with pytest.raises(LocalAzureError, match="AADSTS50020"):
        flow.pick(GUEST)


def test_fragment_and_form_post_carry_the_code(flow: EntraFlow) -> None:
    location = flow.azure.sign_in(flow.browser, flow.make_authorize_url(response_mode="fragment"), ALICE)
    assert urlsplit(location).query == ""
    assert "code=" in urlsplit(location).fragment
    # prompt=none finds the session of the pick above and needs no picker.
    page = BeautifulSoup(flow.open_page(response_mode="form_post", prompt="none").text, "html.parser")
    [form] = page.select("form")
    assert form["action"] == CALLBACK
    fields = {str(item["name"]): str(item["value"]) for item in form.select("input")}
    assert flow.redeem(fields["code"]).status_code == 200


def test_prompt_none_needs_exactly_one_session(flow: EntraFlow) -> None:
    def ask(**changes: str | None) -> dict[str, str]:
        return read_query(flow.open_page(prompt="none", **changes).headers["Location"])

    assert ask()["error"] == "login_required"
    hint = str(flow.verify(flow.sign_in(ALICE)["id_token"])["login_hint"])
    assert "code" in ask()
    flow.pick(BOB)
    assert ask()["error"] == "interaction_required"
    assert "code" in ask(login_hint=hint)


def test_sign_ins_of_one_account_share_a_session(flow: EntraFlow) -> None:
    first, second = (flow.verify(flow.sign_in(ALICE)["id_token"])["sid"] for _ in range(2))
    assert first == second
    assert flow.verify(flow.sign_in(BOB)["id_token"])["sid"] != first
    with flow.azure.make_session() as other:
        assert flow.verify(EntraFlow(flow.azure, other).sign_in(ALICE)["id_token"])["sid"] != first
