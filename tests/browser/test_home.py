"""The home page: the user's ids, a token with countdown and copy button, and error messages."""

import re
from collections.abc import Callable

import pytest
from azure.data.tables import TableServiceClient
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenWindow
from tests.browser.steps import expect_signed_in, expect_signed_out, get_token, pick, show_home, sign_out
from tests.support.chromium import Window
from tests.support.local_azure import LocalAzure
from tests.support.node import run_code
from tests.support.person import Person
from tests.support.rows import get_session
from tests.support.storage_proxy import Fault, StorageProxy

ACS_USER_ID = re.compile(r"8:acs:[0-9a-f-]{36}_[0-9a-f-]{36}")
NONE_YET = re.compile("^None yet")
GOT = re.compile("Here is your token")
SIGNED_OUT = re.compile("no longer signed in.*[Rr]eload")
SNIPPET_WITH_ENDS = """
import {{ requests }} from "./as-browser.mjs";
{snippet}
const outcomes = [await credential.getToken().catch((error) => ({{ error: error.message }}))];
credential.dispose();
console.log(JSON.stringify({{ outcomes, requests }}));
"""


def expect_no_token(page: Page) -> None:
    expect(page.locator("#token-result")).to_be_hidden()
    expect(page.locator("#token-text")).to_have_value("")


def test_home_shows_name_and_ids(home: Page, signed_in: Person) -> None:
    account = signed_in.account
    expect(home.get_by_role("heading", level=1)).to_have_text(f"Hello, {account.name}")
    identity = home.get_by_role("region", name="Your identity")
    for fact in (account.username, account.object_id, account.tenant_id):
        expect(identity).to_contain_text(fact)


def test_button_shows_tokens_scopes_and_new_identity(home: Page, azure: LocalAzure) -> None:
    expect(home.locator("#acs-user-id")).to_be_empty()
    expect(home.get_by_text(NONE_YET)).to_be_visible()
    first = get_token(home)
    verdict = azure.check_token(first)
    assert verdict["valid"]
    expect(home.get_by_role("status")).to_have_text(GOT)
    expect(home.locator("#token-scopes")).to_have_text("chat, voip")
    assert ACS_USER_ID.fullmatch(str(verdict["identity"]))
    expect(home.locator("#acs-user-id")).to_have_text(str(verdict["identity"]))
    expect(home.get_by_text(NONE_YET)).to_have_count(0)
    home.wait_for_timeout(1000)  # tokens issued in the same second may be equal
    home.locator("#get-token").click()
    expect(home.locator("#token-text")).not_to_have_value(first)
    again = home.locator("#token-text").input_value()
    assert azure.check_token(again)["identity"] == verdict["identity"]


@pytest.mark.parametrize("time", [None, "2031-01-01"], ids=["good clock", "wrong clock"])
def test_countdown_ends_and_hides_the_token(home: Page, time: str | None) -> None:
    home.clock.install(time=time)
    get_token(home)
    expect(home.get_by_role("status")).to_have_text(GOT)
    countdown = home.get_by_role("timer")
    expect(countdown).to_have_text(re.compile(r"^(01:00:0\d|00:59:5\d)$"))
    home.clock.fast_forward("50:00")
    expect(countdown).to_have_text(re.compile(r"^00:(10:0\d|09:5\d)$"))
    home.clock.fast_forward("10:10")
    expect(home.get_by_role("status")).to_contain_text("This token has expired")
    expect_no_token(home)


def test_copy_puts_the_token_on_the_clipboard(home: Page) -> None:
    home.context.grant_permissions(["clipboard-read", "clipboard-write"])
    token = get_token(home)
    home.get_by_role("button", name="Copy").click()
    expect(home.get_by_role("status")).to_contain_text("Copied")
    assert home.evaluate("navigator.clipboard.readText()") == token


def test_refused_copy_selects_the_token(home: Page) -> None:
    home.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    token = get_token(home)
    home.get_by_role("button", name="Copy").click()
    expect(home.get_by_role("status")).to_contain_text("Select the token")
    assert home.evaluate("getSelection().toString()") == token


def test_reload_keeps_the_session_and_drops_the_token(home: Page, signed_in: Person) -> None:
    token = get_token(home)
    home.reload()
    expect(home.locator("#acs-user-id")).to_have_text(signed_in.me()["communicationUserId"])
    expect_no_token(home)
    assert token not in home.content()


def test_snippet_gets_a_token_until_sign_out(home: Page, signed_in: Person) -> None:
    code = SNIPPET_WITH_ENDS.format(snippet=home.locator("#snippet").text_content())
    (outcome,) = run_code(signed_in, code)["outcomes"]
    check = signed_in.azure.check_token(outcome["token"])
    assert (check["valid"], check["identity"]) == (True, signed_in.me()["communicationUserId"])
    assert "expiresOnTimestamp: Date.parse(expiresOn)" in code
    assert signed_in.sign_out().status_code == 303
    (outcome,) = run_code(signed_in, code)["outcomes"]
    assert "401" in outcome["error"]


@pytest.mark.parametrize("where", ["in another window", "in the storage"])
def test_session_ended_elsewhere_is_reported(
    window: Window,
    home: Page,
    open_window: OpenWindow,
    signed_in: Person,
    tables: TableServiceClient,
    where: str,
) -> None:
    window.expect_problem("status 401: POST .*/api/token")
    get_token(home)
    if where == "in another window":
        sign_out(show_home(open_window(), signed_in), signed_in.url)
    else:
        tables.get_table_client("sessions").delete_entity(get_session(tables, signed_in))
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_have_text(SIGNED_OUT)
    expect_no_token(home)
    home.reload()
    expect_signed_out(home)


def test_error_is_shown_and_button_keeps_working(
    window: Window, home: Page, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    window.expect_problem("status 503: POST .*/api/token")
    window.expect_problem("failed: POST .*/api/token net::ERR_INTERNET_DISCONNECTED")
    signed_in.azure.plant_fault("acs", "create", "status", status=429, retryAfter="7")
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_contain_text("try again in 7 seconds")
    expect_no_token(home)
    signed_in.azure.clear_faults()
    home.route("**/api/token", lambda route: route.abort("internetdisconnected"))
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_contain_text("could not be reached")
    home.unroute("**/api/token")
    storage_proxy.plant(Fault(kind="status", status=503, retry_after="3", table="sessions"))
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_contain_text("try again in 3 seconds")
    storage_proxy.clear()
    assert signed_in.azure.check_token(get_token(home))["valid"]
    home.reload()
    expect_signed_in(home, signed_in.account)


def test_button_pressed_twice_gets_one_token(home: Page, azure: LocalAzure) -> None:
    calls: list[str] = []
    home.on("request", lambda request: calls.append(request.method))
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    home.locator("#get-token").dblclick()
    expect(home.get_by_role("status")).to_contain_text("Getting a token")
    expect(home.locator("#token-result")).to_be_visible()
    assert calls.count("POST") == 1
    get_token(home)
    assert calls.count("POST") == 2


def test_tab_survives_another_sign_in(window: Window, home: Page, signed_in: Person) -> None:
    window.expect_problem("status 403: POST .*/api/token")  # with the CSRF value of the previous session
    sign_in_beside(home, signed_in)
    assert signed_in.azure.check_token(get_token(home))["valid"]


def test_tab_shows_no_token_of_another_user(
    window: Window, home: Page, signed_in: Person, new_person: Callable[..., Person]
) -> None:
    window.expect_problem("status 403: POST .*/api/token")
    other = new_person(name="Somebody Else")
    sign_in_beside(home, other)
    home.locator("#get-token").click()
    home.wait_for_load_state("networkidle")
    expect(home.get_by_role("status")).not_to_contain_text("Getting a token")
    if signed_in.account.name in home.get_by_role("heading", level=1).inner_text():
        expect_no_token(home)


def sign_in_beside(home: Page, person: Person) -> None:
    """Sign in in another tab of the same window."""
    tab = home.context.new_page()
    tab.goto(f"{person.url}/auth/sign-in")
    pick(tab, person.account)


def test_script_messages_are_in_french(open_window: OpenWindow, signed_in: Person, azure: LocalAzure) -> None:
    window = open_window(locale="fr-FR")
    window.expect_problem("status 503: POST .*/api/token")
    page = show_home(window, signed_in)
    expect(page.get_by_role("heading", level=1)).to_have_text("Bonjour, Test Person")
    azure.plant_fault("acs", "create", "status", status=429, retryAfter="7")
    page.get_by_role("button", name="Obtenir un jeton").click()
    for text in ("dans 7 secondes", "indisponible"):
        expect(page.get_by_role("status")).to_contain_text(text)
    azure.clear_faults()
    get_token(page)
    expect(page.get_by_role("status")).to_contain_text("Voici votre jeton")
