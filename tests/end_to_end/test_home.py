"""The home page: whose it is, a token, its countdown, a copy."""

import re

from playwright.sync_api import Page, expect

from tests.end_to_end.steps import get_token
from tests.support.local_azure import LocalAzure
from tests.support.person import Person

ACS_USER_ID = re.compile(r"8:acs:[0-9a-f-]{36}_[0-9a-f-]{36}")
CLIPBOARD = ["clipboard-read", "clipboard-write"]
NONE_YET = re.compile("^None yet")
GOT = re.compile("Here is your token")


def test_home_shows_name_and_ids(home: Page, signed_in: Person) -> None:
    account = signed_in.account
    expect(home.get_by_role("heading", level=1)).to_have_text(f"Hello, {account.name}")
    identity = home.get_by_role("region", name="Your identity")
    for fact in (account.username, account.object_id, account.tenant_id):
        expect(identity).to_contain_text(fact)


def test_button_shows_token_scopes_and_new_identity(home: Page, azure: LocalAzure) -> None:
    expect(home.locator("#acs-user-id")).to_be_empty()
    expect(home.get_by_text(NONE_YET)).to_be_visible()
    verdict = azure.check_token(get_token(home))
    assert verdict["valid"]
    expect(home.get_by_role("status")).to_have_text(GOT)
    expect(home.locator("#token-scopes")).to_have_text("chat, voip")
    assert ACS_USER_ID.fullmatch(str(verdict["identity"]))
    expect(home.locator("#acs-user-id")).to_have_text(str(verdict["identity"]))
    expect(home.get_by_text(NONE_YET)).to_have_count(0)


def test_button_again_shows_another_token_for_the_same_identity(home: Page, azure: LocalAzure) -> None:
    first = get_token(home)
    home.wait_for_timeout(1000)  # tokens that were issued in the same second may be alike
    home.locator("#get-token").click()
    expect(home.locator("#token-text")).not_to_have_value(first)
    second = home.locator("#token-text").input_value()
    assert azure.check_token(second)["identity"] == azure.check_token(first)["identity"]


def test_countdown_ends_with_the_token_gone(home: Page) -> None:
    home.clock.install()
    get_token(home)
    countdown = home.get_by_role("timer")
    expect(countdown).to_have_text(re.compile(r"^(01:00:00|00:59:5\d)$"))
    home.clock.fast_forward("50:00")
    expect(countdown).to_have_text(re.compile(r"^00:(10:00|09:5\d)$"))
    home.clock.fast_forward("10:01")
    expect(home.get_by_role("status")).to_contain_text("This token has expired")
    expect(home.locator("#token-result")).to_be_hidden()
    expect(home.locator("#token-text")).to_have_value("")


def test_countdown_does_not_rest_on_the_computers_clock(home: Page) -> None:
    home.clock.install(time="2031-01-01")
    get_token(home)
    expect(home.get_by_role("timer")).to_have_text(re.compile(r"^(01:00:0\d|00:59:5\d)$"))
    expect(home.get_by_role("status")).to_have_text(GOT)


def test_copy_puts_the_token_on_the_clipboard(home: Page) -> None:
    home.context.grant_permissions(CLIPBOARD)
    token = get_token(home)
    home.get_by_role("button", name="Copy").click()
    expect(home.get_by_role("status")).to_contain_text("Copied")
    assert home.evaluate("navigator.clipboard.readText()") == token


def test_copy_that_the_browser_refuses_selects_the_token(home: Page) -> None:
    home.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    token = get_token(home)
    home.get_by_role("button", name="Copy").click()
    expect(home.get_by_role("status")).to_contain_text("Select the token")
    assert home.evaluate("getSelection().toString()") == token


def test_reload_keeps_signed_in_and_forgets_the_token(home: Page, signed_in: Person) -> None:
    token = get_token(home)
    home.reload()
    expect(home.locator("#acs-user-id")).to_have_text(signed_in.me()["communicationUserId"])
    expect(home.locator("#token-result")).to_be_hidden()
    expect(home.locator("#token-text")).to_have_value("")
    assert token not in home.content()
