"""A token for Microsoft Teams, from the home page through Entra ID's picker and back."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenWindow
from tests.browser.steps import PICKER, show_home
from tests.support.chromium import find_violations
from tests.support.person import Person

LINK = "a[href='/auth/teams']"


def get_teams_token(page: Page, person: Person) -> str:
    """Follow the link, pick the account; return the token that is shown."""
    page.locator(LINK).click()
    expect(page).to_have_title(PICKER)
    page.locator(f"button[value='{person.account.username}']").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your token for Microsoft Teams")
    return page.locator("#token-text").input_value()


def test_home_page_link_leads_to_a_token(home: Page, signed_in: Person) -> None:
    home.context.grant_permissions(["clipboard-read", "clipboard-write"])
    home.clock.install()
    token = get_teams_token(home, signed_in)
    check = signed_in.azure.check_token(token)
    assert (check["valid"], check["identity"]) == (True, f"8:orgid:{signed_in.account.object_id}")
    expect(home.locator("#token-scopes")).to_contain_text("Teams.ManageCalls")
    expect(home.get_by_role("timer")).to_have_text(re.compile(r"^(01:00:00|00:59:\d\d)$"))
    home.get_by_role("button", name="Copy").click()
    expect(home.get_by_role("status")).to_contain_text("Copied")
    assert home.evaluate("navigator.clipboard.readText()") == token
    home.clock.fast_forward("01:00:01")
    expect(home.get_by_role("status")).to_contain_text("This token has expired")
    expect(home.locator("#token-text")).to_have_value("")
    # The URL no longer contains the code, and a reload goes through Entra ID for another token.
    expect(home).to_have_url(f"{signed_in.url}/auth/teams")
    home.reload()
    expect(home).to_have_title(PICKER)


def test_page_has_no_violations(home: Page, signed_in: Person) -> None:
    get_teams_token(home, signed_in)
    assert find_violations(home) == []
    home.emulate_media(color_scheme="dark")
    home.set_viewport_size({"width": 320, "height": 900})
    assert find_violations(home) == []
    assert home.evaluate("document.documentElement.scrollWidth") <= 320


def test_token_is_shown_without_scripts(open_window: OpenWindow, signed_in: Person) -> None:
    assert get_teams_token(show_home(open_window(scripts=False), signed_in), signed_in)
