"""The authorization endpoint and its account picker."""

from urllib.parse import urlsplit

import pytest
import requests
from bs4 import BeautifulSoup

from tests.local_azure.flows import ADMIN, ALICE, BOB, CALLBACK, GUEST, EntraFlow, read_query
from tests.support.local_azure import CALL_SECONDS, LocalAzure, LocalAzureError, read_form


def test_picker_offers_every_account(local_azure: LocalAzure, flow: EntraFlow) -> None:
    page = BeautifulSoup(flow.open_page().text, "html.parser")
    picks = {
        str(button["value"]): button.get_text(" ", strip=True) for button in page.select("[name=account]")
    }
    assert {ALICE, BOB, ADMIN, GUEST} <= set(picks)
    assert picks[ALICE] == f"Alice Example {ALICE}"
    assert page.html is not None
    assert page.html["lang"] == "en"
    assert page.select_one("h1") is not None
    assert page.select_one("meta[name=viewport]") is not None
    assert not page.select("script")


def test_picker_style_sheet_is_served(flow: EntraFlow) -> None:
    answer = flow.open_page()
    [link] = BeautifulSoup(answer.text, "html.parser").select("link[rel=stylesheet]")
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(answer.url))
    assert flow.browser.get(f"{origin}{link['href']}", timeout=CALL_SECONDS).status_code == 200


def test_disabled_account_is_not_offered_and_cannot_sign_in(local_azure: LocalAzure, flow: EntraFlow) -> None:
    account = local_azure.put_account("carol@contoso.example", name="Carol", enabled=True)
    code = flow.pick(account.username)["code"]
    local_azure.put_account(account.username, objectId=account.object_id, enabled=False)
    assert account.username not in flow.open_page().text
    answer = flow.redeem(code)
    assert (answer.status_code, answer.json()["error_codes"]) == (400, [50057])
    local_azure.delete_account(account.username)


def test_pick_returns_code_and_state(flow: EntraFlow) -> None:
    answer = flow.pick()
    assert answer["state"] == "the-state"
    assert flow.redeem(answer["code"]).status_code == 200


def test_markup_in_parameters_is_shown_as_text(flow: EntraFlow) -> None:
    page = flow.open_page(state='"><script>alert(1)</script>').text
    assert "<script>" not in page
    assert flow.pick(state='"><b>')["state"] == '"><b>'


def test_cancel_tells_the_app(flow: EntraFlow) -> None:
    page = flow.open_page()
    action, fields = read_form(page.text, "cancel", "1")
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(page.url))
    answer = flow.browser.post(f"{origin}{action}", data=fields, allow_redirects=False, timeout=CALL_SECONDS)
    told = read_query(answer.headers["Location"])
    assert (told["error"], told["state"]) == ("access_denied", "the-state")
    assert "AADSTS65004" in told["error_description"]


@pytest.mark.parametrize(
    "redirect_uri",
    [
        CALLBACK,
        "http://localhost:1/",
        "https://localhost/auth/callback",
        "http://127.0.0.1:9999/auth/callback",
        "https://app.example/callback",
    ],
)
def test_registered_redirect_uri_is_taken(flow: EntraFlow, redirect_uri: str) -> None:
    location = flow.azure.sign_in(flow.browser, flow.make_authorize_url(redirect_uri=redirect_uri), ALICE)
    assert location.startswith(f"{redirect_uri}?code=")


@pytest.mark.parametrize(
    "redirect_uri",
    [
        None,
        "",
        "https://attacker.example/auth/callback",
        "http://localhost.attacker.example/auth/callback",
        "http://user@localhost/auth/callback",
        "http://localhost/auth/callback/",
        "http://localhost/auth/callback?more=1",
        "http://localhost/auth/callback#fragment",
        "http://localhost:port/auth/callback",
        "https://app.example:444/callback",
        "javascript:alert(1)",
    ],
)
def test_unregistered_redirect_uri_ends_on_a_page(flow: EntraFlow, redirect_uri: str | None) -> None:
    answer = flow.open_page(redirect_uri=redirect_uri)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "AADSTS50011" in answer.text


def test_unknown_client_ends_on_a_page(flow: EntraFlow) -> None:
    answer = flow.open_page(client_id="00000000-0000-4000-8000-000000000000")
    assert (answer.status_code, "AADSTS700016" in answer.text) == (400, True)


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
def test_wrong_parameter_is_told_to_the_app(
    flow: EntraFlow, changes: dict[str, str | None], error: str
) -> None:
    answer = flow.open_page(**changes)
    told = read_query(answer.headers["Location"])
    assert (answer.status_code, told["error"], told["state"]) == (302, error, "the-state")
    assert "AADSTS" in told["error_description"]


def test_account_of_another_tenant_ends_on_a_page(local_azure: LocalAzure, browser: requests.Session) -> None:
    flow = EntraFlow(local_azure, browser, tenant=local_azure.get_account(ALICE).tenant_id)
    assert flow.pick(ALICE)["code"]
    with pytest.raises(LocalAzureError, match="AADSTS50020"):
        flow.pick(GUEST)


def test_fragment_and_form_post_modes(flow: EntraFlow) -> None:
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


def test_picks_of_one_account_share_a_session(flow: EntraFlow, local_azure: LocalAzure) -> None:
    first, second = (flow.verify(flow.sign_in(ALICE)["id_token"])["sid"] for _ in range(2))
    assert first == second
    assert flow.verify(flow.sign_in(BOB)["id_token"])["sid"] != first
    with local_azure.make_session() as other:
        assert flow.verify(EntraFlow(local_azure, other).sign_in(ALICE)["id_token"])["sid"] != first
