"""A token for Microsoft Teams, from the home page through Entra ID's picker and back."""

import re

from playwright.sync_api import Page, expect

from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.steps import PICKER
from tests.support.axe import find_violations
from tests.support.chromium import Window
from tests.support.local_azure import LocalAzure
from tests.support.person import Person

LINK = "a[href='/auth/teams']"
PHONE = 320


def get_teams_token(page: Page, person: Person) -> str:
    """Press the link, pick the account; return the token that is shown then."""
    page.locator(LINK).click()
    expect(page).to_have_title(PICKER)
    page.locator(f"button[value='{person.account.username}']").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your token for Microsoft Teams")
    return page.locator("#token-text").input_value()


def test_link_on_the_home_page_leads_to_a_token(home: Page, signed_in: Person, azure: LocalAzure) -> None:
    token = get_teams_token(home, signed_in)
    check = azure.check_token(token)
    assert (check["valid"], check["identity"]) == (True, f"8:orgid:{signed_in.account.object_id}")
    expect(home.locator("#token-scopes")).to_contain_text("Teams.ManageCalls")
    expect(home.get_by_role("timer")).to_have_text(re.compile(r"^(01:00:00|00:59:\d\d)$"))
    # The code that the address held is gone from it, and a reload gets another token by another trip.
    expect(home).to_have_url(f"{signed_in.url}/auth/teams")
    home.reload()
    expect(home).to_have_title(PICKER)


def test_token_can_be_copied_and_goes_when_it_expires(home: Page, signed_in: Person) -> None:
    home.context.grant_permissions(["clipboard-read", "clipboard-write"])
    home.clock.install()
    token = get_teams_token(home, signed_in)
    home.get_by_role("button", name="Copy").click()
    expect(home.get_by_role("status")).to_contain_text("Copied")
    assert home.evaluate("navigator.clipboard.readText()") == token
    home.clock.fast_forward("01:00:01")
    expect(home.get_by_role("status")).to_contain_text("This token has expired")
    expect(home.locator("#token-text")).to_have_value("")


def test_page_is_within_wcag_on_a_phone_and_in_the_dark(home: Page, signed_in: Person) -> None:
    get_teams_token(home, signed_in)
    assert find_violations(home) == []
    home.emulate_media(color_scheme="dark")
    home.set_viewport_size({"width": PHONE, "height": 900})
    assert find_violations(home) == []
    assert home.evaluate("document.documentElement.scrollWidth") <= PHONE


def test_cancelling_at_entra_id_is_a_page_that_leads_back(
    window: Window, home: Page, signed_in: Person
) -> None:
    window.expect_trouble("status 403")
    home.locator(LINK).click()
    home.locator("button[name='cancel']").click()
    expect(home.get_by_role("heading", level=1)).to_have_text("No access")
    home.get_by_role("link", name="To the start page").click()
    expect(home.get_by_role("heading", level=1)).to_have_text(f"Hello, {signed_in.account.name}")


def test_token_is_there_without_scripts(open_window: OpenWindow, signed_in: Person) -> None:
    window = open_window(scripts=False)
    window.take_cookies(signed_in)
    page = window.new_page()
    page.goto(signed_in.url)
    assert get_teams_token(page, signed_in)
